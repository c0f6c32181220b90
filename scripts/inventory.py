# SPDX-License-Identifier: GPL-3.0-or-later
"""Make ready what a run on a demo inventory needs beside the hosts: its secrets, the application's release, Patroni's wheels."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from images import image_name
from support import BIN, CACHE, ROOT, Problem, run, say, stop

PASSWORD = ".vault_password"
MADE = [PASSWORD, "pki", "secrets", "vault.yml", "vendor.yml"]
# What users put into passwords, behind what was drawn: everything that shells, INI files, YAML, systemd, libpq, URLs and the daemons'
# own formats take for something. The same every time, so that a run that fails can be repeated. Who takes less is named.
TAILS = {
    "": """ it's "a" $HOME ${x} #1; 50% \\n {b} `c` & é end""",
    "vault_patroni_api_password": """ it's "a" $HOME ${x} #1; 50% \\n {b} `c` & end""",
    "vault_redis_": """it's"a"$HOME${x}#1;50%\\n{b}`c`&end""",
    "vault_grafana_": """ it's "a" $HOME #1; 50% \\n {b} & é end""",
    "vault_keepalived_password": "#!$",
}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def copy_for(lab: str, source: Path) -> Path:
    """Copy an inventory for a test, so that its secrets and its authority are not the demo's; add what only the test needs."""
    target = CACHE / "inventories" / lab
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*MADE))
    additions = ROOT / "molecule" / lab.removeprefix("mol-") / "inventory"
    if additions.is_dir():
        shutil.copytree(additions, target, dirs_exist_ok=True)
    # The demo's hosts are reached as a user of it may; those of a test as their lab decided. Read after lab.yml, whose lookups would be
    # made for each task of each host: a third of what the controller did.
    made = yaml.safe_load((CACHE / "labs" / lab / "inventory.yml").read_text(encoding="utf-8"))["all"]["vars"]
    reach = {name: made[name] for name in ("ansible_connection", "lab_name", "lab_net")}
    (target / "group_vars" / "all" / "reach.yml").write_text(f"---\n{yaml.safe_dump(reach)}", encoding="utf-8")
    return target


def password_file(inventory: Path) -> Path:
    """Return the file with the vault password; make it when it is not there."""
    path = inventory / PASSWORD
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
    return path


def write_secrets(inventory: Path, as_users_choose: bool = False) -> None:
    """Write the vault file; what stands in it stays. Where users would have chosen the secrets, a new one has theirs."""
    playbook = ROOT / "playbooks" / "create_secrets.yml"
    vault = inventory / "group_vars" / "all" / "vault.yml"
    fresh = not vault.exists()
    run(BIN / "ansible-playbook", playbook, "-i", inventory, "--vault-password-file", password_file(inventory))
    if fresh and as_users_choose:
        library = VaultLib([("default", VaultSecret(password_file(inventory).read_bytes().strip()))])
        made = yaml.safe_load(library.decrypt(vault.read_bytes()))
        chosen = {name: as_chosen(name, value) for name, value in made.items()}
        vault.write_bytes(library.encrypt(yaml.safe_dump(chosen)))


def as_chosen(name: str, value: Any) -> Any:
    """Return a secret, or a dictionary of them, with the signs that users put into theirs."""
    if isinstance(value, dict):
        return {key: as_chosen(name, one) for key, one in value.items()}
    tail = next(text for start, text in reversed(TAILS.items()) if name.startswith(start))
    # VRRP carries eight characters and no more.
    return value[: -len(tail)] + tail if len(value) == 8 else value + tail


def decide_vendor_software(inventory: Path) -> None:
    """Leave out what Debian does not have where its vendor's repository cannot be reached."""
    vendors = yaml.safe_load((ROOT / "roles/platform/vars/vendors.yml").read_text(encoding="utf-8"))["platform_vendors"]
    repository = vendors["grafana"]["repository"]
    target = inventory / "group_vars" / "all" / "vendor.yml"
    try:
        with urllib.request.urlopen(f"{repository['url']}/{repository['key']}", timeout=10):
            reachable = True
    except OSError:
        reachable = False
        say("not verified here: Grafana, Loki, Alloy (vendor repository not reachable)")
    target.write_text(
        "---\n# Written when the demo was made ready: whether the repository of Grafana, Loki and Alloy answered.\n"
        f"platform_grafana_enabled: {str(reachable).lower()}\nplatform_logs_enabled: {str(reachable).lower()}\n",
        encoding="utf-8",
    )


def build_release() -> None:
    """Build the sample application, in a container where this machine has no npm."""
    builder = ROOT / "tests" / "sample_app" / "build"
    if shutil.which("npm") and shutil.which("node"):
        run(builder, timeout=600)
        return
    if any((ROOT / "build").glob("sample_app-*.tar.gz")) and not _newer(builder.parent):
        return
    say("release: this machine has no npm; building in a container")
    options = [f"--volume={ROOT}:/src", "--network=host", "--env=DEBIAN_FRONTEND=noninteractive"]
    if CERTIFICATES.exists():
        # The registry may be reached through a proxy with a certificate of its own.
        options += [f"--volume={CERTIFICATES}:/ca.crt:ro", "--env=NODE_EXTRA_CA_CERTS=/ca.crt"]
    options += [f"--env={name}" for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy")]
    npmrc = Path.home() / ".npmrc"
    if npmrc.exists():
        options.append(f"--volume={npmrc}:/root/.npmrc:ro")
    script = (
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends npm >/dev/null && /src/tests/sample_app/build; "
        f"status=$?; chown -R {os.getuid()}:{os.getgid()} /src/build; exit $status"
    )
    (ROOT / "build").mkdir(exist_ok=True)
    run("docker", "run", "--rm", *options, image_name(12), "sh", "-c", script, timeout=900)


def _newer(directory: Path) -> bool:
    """Tell whether a source of the application is newer than its release."""
    built = max(path.stat().st_mtime for path in (ROOT / "build").glob("sample_app-*.tar.gz"))
    sources = (path for path in directory.rglob("*") if path.is_file() and "node_modules" not in path.parts)
    return any(path.stat().st_mtime > built for path in sources)


def build_artefacts() -> None:
    """Build what is pushed to hosts instead of fetched by them: the application's release and Patroni's wheels."""
    build_release()
    run(sys.executable, ROOT / "scripts" / "build_patroni_wheels.py", timeout=900)


def prepare(inventory: Path, as_users_choose: bool = False) -> None:
    """Do all of it."""
    build_artefacts()
    decide_vendor_software(inventory)
    write_secrets(inventory, as_users_choose)


def forget(inventory: Path) -> None:
    """Remove the secrets and the authority that were made for an inventory."""
    for name in [*MADE, "group_vars/all/vault.yml", "group_vars/all/vendor.yml"]:
        path = inventory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inventory", type=Path, nargs="?", help="without one, only what all inventories share is built")
    parser.add_argument("--copy-for", metavar="LAB", help="work on a copy below .cache/inventories/LAB")
    arguments = parser.parse_args()
    try:
        if arguments.inventory is None:
            build_artefacts()
            return
        if arguments.copy_for:
            prepare(copy_for(arguments.copy_for, arguments.inventory), as_users_choose=True)
        else:
            prepare(arguments.inventory)
    except Problem as problem:
        stop("inventory", problem)


if __name__ == "__main__":
    main()
