# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a whole platform on this machine, from nothing to a page to open; and its removal."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from engine import answers
from engine import up as engine_up
from images import CODENAMES, build
from inventory import PASSWORD, forget, prepare
from lab import Lab, hosts_of_inventory
from support import BIN, BUILD, ROOT, Problem, say, stop

sys.path.insert(0, str(ROOT / "tests"))
from harness.web import User

VIRTUAL_NUMBER = 100
PAGE_SECONDS = 60


@dataclass(frozen=True)
class Demo:
    """Name and network of a tier's hosts; group_vars/all/lab.yml of its inventory says the same."""

    tier: str
    lab: str
    net: str

    @property
    def inventory(self) -> Path:
        """Where its inventory is."""
        return ROOT / "inventories" / "demo" / self.tier

    @property
    def domain(self) -> str:
        """The public name of the application."""
        page = yaml.safe_load((self.inventory / "group_vars" / "all" / "platform.yml").read_text(encoding="utf-8"))
        return str(page["platform_domain"])

    @property
    def address(self) -> str:
        """The address that users reach."""
        hosts = hosts_of_inventory(self.inventory)
        return f"{self.net}.{hosts[0].number if len(hosts) == 1 else VIRTUAL_NUMBER}"


DEMOS = {"growth": Demo("growth", "demo", "10.84.10"), "startup": Demo("startup", "demo-startup", "10.84.9")}


def converge(demo: Demo) -> dict[str, float]:
    """Run the tier's playbook; return the seconds of each layer."""
    report = BUILD / f"demo-{demo.tier}.json"
    report.unlink(missing_ok=True)
    command = [BIN / "ansible-playbook", f"playbooks/{demo.tier}.yml", "-i", demo.inventory.relative_to(ROOT)]
    command += ["--vault-password-file", (demo.inventory / PASSWORD).relative_to(ROOT)]
    words = [str(word) for word in command]
    say(f"\n$ {shlex.join(words)}".replace(f"{ROOT}/", ""))
    status = subprocess.run(words, cwd=ROOT, env={**os.environ, "UPTIER_RUN_REPORT": str(report)}, check=False).returncode
    if status != 0:
        raise Problem(
            f"the playbook ended with status {status}; see above for what failed.\n"
            f"The hosts are still there: look with `docker exec -it {demo.lab}-<host> bash`, and run `make demo` again to continue."
        )
    layers: dict[str, float] = json.loads(report.read_text(encoding="utf-8"))["layers"]
    return layers


def check_as_user(demo: Demo) -> list[str]:
    """Open the page, write and read as a user does; return what was seen."""
    user = User(demo.address, demo.domain, demo.inventory / "pki" / "ca.crt")
    deadline = time.monotonic() + PAGE_SECONDS
    while True:
        try:
            health = user.get("/api/health")
            if health.status == 200:
                break
            seen = f"status {health.status}"
        except (OSError, http.client.HTTPException) as error:
            seen = str(error)
        if time.monotonic() > deadline:
            raise Problem(
                f"https://{demo.domain}/api/health at {demo.address} does not answer with 200: {seen}.\n"
                f"Look at the gateway: docker exec -it {demo.lab}-{hosts_of_inventory(demo.inventory)[0].name} "
                "tail /var/log/nginx/error.log"
            )
        time.sleep(1)
    page = user.get("/")
    text = f"written by make demo at {time.strftime('%H:%M:%S')}"
    written = user.request("POST", "/api/notes", {"body": text})
    read = user.get("/api/notes")
    for what, good in {
        f"GET / gave {page.status}": page.status == 200,
        f"POST /api/notes gave {written.status}": written.status in (200, 201),
        f"GET /api/notes gave {read.status} without the note just written": text.encode() in read.body,
    }.items():
        if not good:
            raise Problem(f"the platform runs, but {what} at https://{demo.domain} ({demo.address}).")
    return ["GET / over HTTPS, certificate verified", "POST /api/notes, a row in PostgreSQL", "GET /api/notes, the row is there"]


def who_runs_what(demo: Demo) -> list[str]:
    """Return one line per host: release, address, groups."""
    content = yaml.safe_load((demo.inventory / "hosts.yml").read_text(encoding="utf-8"))["all"]
    lines = []
    for host in hosts_of_inventory(demo.inventory):
        groups = [name for name, group in content["children"].items() if host.name in (group["hosts"] or {})]
        lines.append(f"{host.name:<6}{demo.net}.{host.number:<6}Debian {host.release}   {', '.join(groups)}")
    return lines


def summary(demo: Demo, layers: dict[str, float], seen: list[str], steps: dict[str, float]) -> str:
    """Return what the user wants to know now."""
    inventory = demo.inventory.relative_to(ROOT)
    vault = f"--vault-password-file {inventory}/{PASSWORD}"
    playbook = f".venv/bin/ansible-playbook playbooks/{demo.tier}.yml -i {inventory} {vault}"
    database = next(host.name for host in hosts_of_inventory(demo.inventory) if host.name.startswith("db") or demo.tier == "startup")
    kill = (
        f"docker kill {demo.lab}-{database}     # a database host dies; watch the page; bring it back: docker start {demo.lab}-{database}"
        if demo.tier != "startup"
        else f"docker restart {demo.lab}-{database}     # the host restarts; everything comes back by itself"
    )
    return "\n".join(
        [
            "",
            f"The {demo.tier} platform runs.",
            "",
            "Open",
            f"  https://{demo.domain}/     once this machine knows the name and the demo's certificate authority:",
            f"  echo '{demo.address} {demo.domain}' | sudo tee -a /etc/hosts     and import {inventory}/pki/ca.crt into the browser",
            f"  curl --cacert {inventory}/pki/ca.crt --resolve {demo.domain}:443:{demo.address} https://{demo.domain}/api/status",
            "",
            "Checked as a user",
            *(f"  ok  {line}" for line in seen),
            "",
            "Credentials",
            f"  .venv/bin/ansible-vault view {vault} {inventory}/group_vars/all/vault.yml",
            "",
            "What runs where",
            *(f"  {line}" for line in who_runs_what(demo)),
            "",
            "Seconds",
            *(f"  {name:<16}{seconds:7.1f}" for name, seconds in {**steps, **layers}.items()),
            "",
            "Try next",
            f"  {kill}",
            f"  {playbook}     # changes nothing, restarts nothing",
            f"  make demo-down{' TIER=startup' if demo.tier == 'startup' else ''}     # remove it",
        ]
    )


def up(demo: Demo) -> None:
    """Have the platform running; continues on what is there."""
    steps: dict[str, float] = {}
    lab = Lab(demo.lab, hosts_of_inventory(demo.inventory), demo.net)

    def step(name: str, *actions: object) -> None:
        started = time.monotonic()
        for action in actions:
            action()  # type: ignore[operator]
        steps[name] = time.monotonic() - started

    step("engine", engine_up)
    step("images", *(lambda release=release: build(release) for release in CODENAMES))
    step("hosts", lab.up)
    step("release, secrets", lambda: prepare(demo.inventory))
    layers = converge(demo)
    say(summary(demo, layers, check_as_user(demo), steps))


def down(demo: Demo) -> None:
    """Remove the hosts, their network, their secrets and their authority."""
    if answers():
        Lab(demo.lab, []).down()
    forget(demo.inventory)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("--tier", choices=sorted(DEMOS), help="default: up growth, down both")
    arguments = parser.parse_args()
    try:
        if arguments.action == "up":
            up(DEMOS[arguments.tier or "growth"])
            return
        for tier in [arguments.tier] if arguments.tier else sorted(DEMOS):
            down(DEMOS[tier])
        say("demo: removed. Images and downloaded packages stay for the next time; `make clean-all` removes them.")
    except Problem as problem:
        stop("demo", problem)


if __name__ == "__main__":
    main()
