# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts: one network and one container with systemd per host of an inventory or a Molecule scenario.

A lab is known by its name: its network has that name, its containers are <lab>-<host>, both carry the label
uptier.lab=<lab>. `up` continues on what is there; `down` removes what carries the label and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from images import CODENAMES, image_name
from support import BUILD, CACHE, ROOT, Problem, run, say, stop

sys.path.insert(0, str(ROOT / "tests"))
from harness import engine, enter

T = TypeVar("T")
LABEL = "uptier.lab"
PACKAGE_CACHE = "uptier-apt-cache"
POOL = "/var/cache/uptier-apt"
# A mirror removes what an update has replaced, though not at once.
LISTS_MINUTES = 60
# What the hosts of each lab used of the processors, kept when they are removed.
SPENT = CACHE / "processor-seconds"
BOOT_SECONDS = 300
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
FIRST_NUMBER = 11
# What a host weighs beside others where processors are scarce; the engine's own default is 1024.
SHARES = os.environ.get("UPTIER_LAB_SHARES", "")
FREE_NETS = range(20, 251)

# --privileged is not to be had on every machine, and these are enough for systemd, nftables and keepalived.
FLAGS = [
    *("--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN"),
    *("--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"),
    *("--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec", "--stop-timeout=10"),
]
# A host that runs containers itself (Podman) needs these on top.
NESTED_FLAGS = [
    *("--cap-add=ALL", "--cap-drop=SYS_RESOURCE", "--device=/dev/fuse", "--security-opt=systempaths=unconfined"),
    *("--volume=/var/lib/containers", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw", "--cgroupns=host"),
]


@dataclass(frozen=True)
class Host:
    """A test host as its definition says."""

    name: str
    release: int
    number: int
    groups: tuple[str, ...] = ()
    nested: bool = False
    sysctls: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str, given: dict[str, Any], number: int, groups: Iterable[str] = ()) -> Host:
        """Read lab_release, lab_number, lab_nested and lab_sysctls."""
        release = given.get("lab_release")
        if release not in CODENAMES:
            known = " or ".join(map(str, CODENAMES))
            raise Problem(f"host {name}: lab_release is {release!r}; set it to {known}, the Debian release of the test host.")
        sysctls = {str(key): str(value) for key, value in (given.get("lab_sysctls") or {}).items()}
        return cls(name, release, int(given.get("lab_number", number)), tuple(groups), bool(given.get("lab_nested")), sysctls)


def hosts_of_inventory(directory: Path) -> list[Host]:
    """Read all.hosts of an inventory's hosts.yml."""
    path = directory / "hosts.yml" if directory.is_dir() else directory
    try:
        hosts = yaml.safe_load(path.read_text(encoding="utf-8"))["all"]["hosts"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise Problem(f"{path} has no test hosts below all.hosts ({error!r}).") from None
    return [Host.read(name, given or {}, FIRST_NUMBER + index) for index, (name, given) in enumerate(hosts.items())]


def hosts_of_molecule(path: Path) -> list[Host]:
    """Read the platforms of a molecule.yml."""
    platforms = yaml.safe_load(path.read_text(encoding="utf-8")).get("platforms") or []
    return [
        Host.read(platform["name"], platform, FIRST_NUMBER + index, platform.get("groups", [])) for index, platform in enumerate(platforms)
    ]


def each(action: Callable[[T], object], things: Iterable[T]) -> None:
    """Do something for all hosts at once; the first problem is raised after all have ended."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        for result in [pool.submit(action, thing) for thing in things]:
            result.result()


def processor_seconds(name: str) -> float:
    """Return what the hosts of a lab have used of the processors: those that run now, and those that `down` has removed.

    A host that was killed and started again counts from its last start; what it had used before is noted by who killed it.
    """
    total = 0.0
    with contextlib.suppress(OSError, ValueError):
        total += float((SPENT / name).read_text(encoding="ascii"))
    with contextlib.suppress(Problem):
        running = run("docker", "ps", "-q", "--filter", f"label={LABEL}={name}", timeout=30).stdout.split()
        with ThreadPoolExecutor(max_workers=8) as pool:  # the engine takes most of a second for each
            total += sum(pool.map(engine.used, running))
    return total


def connection(container: str) -> str:
    """Return how Ansible and the tests reach the hosts of this machine: by entering them where that works for one of them."""
    entered = enter.possible() and enter.Reach(entering=True).run(container, ["true"], timeout=30).returncode == 0
    return "enter" if entered else "community.docker.docker"


class Lab:
    """A network and its hosts."""

    def __init__(self, name: str, hosts: list[Host], net: str | None = None) -> None:
        """Take the definition; nothing is made yet."""
        self.name = name
        self.hosts = hosts
        self.net = net or ""
        self.fresh: list[Host] = []

    def container(self, host: Host) -> str:
        """Return the name of a host's container."""
        return f"{self.name}-{host.name}"

    def address(self, host: Host) -> str:
        """Return a host's address."""
        return f"{self.net}.{host.number}"

    # -- up -----------------------------------------------------------------------------------

    def up(self) -> None:
        """Have every host running, booted, and its package lists there."""
        numbers = [host.number for host in self.hosts]
        if len(set(numbers)) != len(numbers):
            raise Problem(f"two hosts of the lab {self.name} have the same lab_number: {sorted(numbers)}.")
        started = time.monotonic()
        self._network()
        run("docker", "volume", "create", PACKAGE_CACHE)
        each(self._container, self.hosts)
        each(self._boot, self.hosts)
        each(self._prepare, self.hosts)
        self._write_inventory()
        count = f"{len(self.hosts)} hosts" if len(self.hosts) > 1 else "1 host"
        say(f"lab {self.name}: {count} on {self.net}.0/24, {len(self.fresh)} new, {time.monotonic() - started:.0f} s")

    def _network(self) -> None:
        """Make the network, or take over the subnet of the one that is there."""
        seen = run("docker", "network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", self.name, check=False)
        if seen.returncode == 0:
            net = seen.stdout.strip().removesuffix(".0/24")
            if self.net and net != self.net:
                raise Problem(
                    f"the network {self.name} is {net}.0/24, wanted was {self.net}.0/24. "
                    f"Remove the lab first: scripts/lab.py down --name {self.name}"
                )
            self.net = net
            return
        for net in [self.net] if self.net else (f"10.84.{number}" for number in FREE_NETS):
            made = run(
                *("docker", "network", "create", f"--label={LABEL}={self.name}", f"--subnet={net}.0/24"),
                *(f"--gateway={net}.1", self.name),
                check=False,
            )
            if made.returncode == 0:
                self.net = net
                return
            if self.net or "overlap" not in made.stderr:
                hint = " Another network has these addresses: choose with UPTIER_LAB_NET." if "overlap" in made.stderr else ""
                raise Problem(f"cannot make the network {self.name} ({net}.0/24): {made.stderr.strip()}.{hint}")
        raise Problem("no free network between 10.84.20.0/24 and 10.84.250.0/24. `docker network ls` shows what is there.")

    def _container(self, host: Host) -> None:
        """Create or start one container."""
        name = self.container(host)
        state = run("docker", "inspect", "-f", '{{.State.Running}} {{index .Config.Labels "uptier.release"}}', name, check=False)
        if state.returncode == 0:
            running, dummy, release = state.stdout.strip().partition(" ")
            if release != str(host.release):
                raise Problem(
                    f"{name} runs Debian {release}, wanted is {host.release}. Remove the lab first: scripts/lab.py down --name {self.name}"
                )
            if running != "true":
                run("docker", "start", name)
            return
        run(
            *("docker", "run", "--detach", f"--name={name}", f"--hostname={host.name}"),
            *(f"--network={self.name}", f"--ip={self.address(host)}"),
            *(f"--label={LABEL}={self.name}", f"--label=uptier.release={host.release}"),
            *FLAGS,
            *([f"--cpu-shares={SHARES}"] if SHARES else []),
            *(NESTED_FLAGS if host.nested else ["--cgroupns=private"]),
            *(f"--sysctl={key}={value}" for key, value in host.sysctls.items()),
            f"--volume={PACKAGE_CACHE}:{POOL}",
            image_name(host.release),
        )
        self.fresh.append(host)

    def _boot(self, host: Host) -> None:
        """Wait until systemd has started everything. A failed unit is for the tests to find."""
        name = self.container(host)
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            seen = run("docker", "exec", name, "systemctl", "is-system-running", "--wait", check=False, timeout=BOOT_SECONDS)
            state = seen.stdout.strip()
            if state in ("running", "degraded"):
                return
            gone = "is not running" in seen.stderr
            if gone or time.monotonic() > deadline:
                logs = run("docker", "logs", "--tail", "15", name, check=False)
                if gone:
                    raise Problem(
                        f"{name} ended while it booted. Most often this machine has no inotify instance left for its systemd: the limit is "
                        f"{INOTIFY.read_text(encoding='ascii').strip()} (fs.inotify.max_user_instances), enough for about 20 hosts. Remove "
                        f"other labs (`make demo-down`, `scripts/lab.py down --all`), or let the machine's owner raise it.\n"
                        f"{logs.stdout}{logs.stderr}"
                    )
                raise Problem(
                    f"{name} did not boot within {BOOT_SECONDS} s: systemd says {state or seen.stderr.strip()!r}.\n"
                    f"{logs.stdout}{logs.stderr}"
                )
            time.sleep(0.3)

    def _prepare(self, host: Host) -> None:
        """Share downloaded packages and package lists between hosts.

        Each host has an archive directory of its own, since apt locks it for as long as it installs. New packages are
        linked into the pool of the release, and the pool into the directory of each new host: no copy, no download.
        Lists are fetched by the first host that finds none, or old ones, and copied by the others, both without what no
        server needs. They look as if fetched now, as after an update, and a role that wants to fetch them itself does.
        """
        name = self.container(host)
        script = f"""set -eu
[ ! -e /var/lib/uptier-lab-prepared ] || exit 0
own={POOL}/hosts/{name} pool={POOL}/{host.release}
rm -rf "$own"; mkdir -p "$own/partial" "$pool"
cp -ln "$pool"/*.deb "$own"/ 2>/dev/null || true
cat >/etc/apt/apt.conf.d/01uptier-lab <<CONF
Dir::Cache::archives "$own/";
DPkg::Pre-Invoke {{ "cp -ln $own/*.deb $pool/ 2>/dev/null || true"; }};
CONF
sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* /usr/local/lib/uptier-lab/server_packages.py 2>/dev/null | cksum | tr ' ' -)
kept={POOL}/lists/$sources
mkdir -p "$kept"
exec 9>"$kept/lock"
flock 9
if [ -z "$(find "$kept/fetched" -mmin -{LISTS_MINUTES} 2>/dev/null)" ]; then
    rm -rf "$kept/fetched" "$kept/lists" "$kept/cache"
    apt-get update -qq
    python3 /usr/local/lib/uptier-lab/server_packages.py
    apt-cache gencaches
    cp -a /var/lib/apt/lists "$kept/lists"
    mkdir "$kept/cache"
    cp -a /var/cache/apt/*.bin "$kept/cache/"
    : >"$kept/fetched"
else
    cp -a "$kept/lists/." /var/lib/apt/lists/
    cp -a "$kept/cache/." /var/cache/apt/
    touch /var/lib/apt/lists
fi
: >/var/lib/uptier-lab-prepared
"""
        run("docker", "exec", "-i", name, "sh", "-s", stdin=script, timeout=300)

    def _write_inventory(self) -> None:
        """Write the hosts for Ansible; Molecule's scenarios use it, and it serves for a look by hand."""
        groups: dict[str, Any] = {}
        for host in self.hosts:
            for group in host.groups:
                groups.setdefault(group, {"hosts": {}})["hosts"][host.name] = {}
        content = {
            "all": {
                "vars": {
                    "lab_name": self.name,
                    "lab_net": self.net,
                    "ansible_connection": connection(self.container(self.hosts[0])),
                    "ansible_host": "{{ lab_name }}-{{ inventory_hostname }}",
                    # A container sees the memory, processors and kernel of the machine, which are not its own.
                    "platform_memory_mb": 1024,
                    "platform_cpus": 1,
                    "platform_manages_kernel": False,
                    "postgresql_patroni_wheels": str(BUILD / "wheels" / "patroni"),
                },
                "hosts": {host.name: {"platform_address": self.address(host)} for host in self.hosts},
                "children": groups,
            }
        }
        directory = CACHE / "labs" / self.name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "inventory.yml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    # -- down, status -------------------------------------------------------------------------

    def down(self) -> None:
        """Remove what carries the label."""
        wanted = f"label={LABEL}={self.name}"
        containers = run("docker", "ps", "-aq", "--filter", wanted).stdout.split()
        if containers:
            spent = processor_seconds(self.name)
            record = SPENT / self.name
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(f"{spent:.1f}\n", encoding="ascii")
            # The command by itself takes one after the other, half a second each.
            each(lambda container: run("docker", "rm", "--force", "--volumes", container, timeout=120), containers)
        networks = run("docker", "network", "ls", "-q", "--filter", wanted).stdout.split()
        if networks:
            run("docker", "network", "rm", *networks)
        for made in ("labs", "inventories"):
            shutil.rmtree(CACHE / made / self.name, ignore_errors=True)
        enter.forget(f"{self.name}-")
        if containers or networks:
            say(f"lab {self.name}: {len(containers)} hosts removed")

    @staticmethod
    def names() -> list[str]:
        """Return the names of all labs that have left something."""
        row = f'{{{{.Label "{LABEL}"}}}}'
        found = [
            *run("docker", "ps", "-a", "--filter", f"label={LABEL}", "--format", row).stdout.split(),
            *run("docker", "network", "ls", "--filter", f"label={LABEL}", "--format", row).stdout.split(),
        ]
        return sorted(set(found))

    def status(self) -> None:
        """Print one line per container."""
        row = "table {{.Names}}\t{{.Image}}\t{{.Status}}"
        say(run("docker", "ps", "-a", "--filter", f"label={LABEL}={self.name}", "--format", row).stdout.rstrip())

    def describe(self) -> None:
        """Print the definition as JSON."""
        say(json.dumps([asdict(host) for host in self.hosts], indent=2))


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down", "status", "wait", "describe"])
    parser.add_argument("--name", default=os.environ.get("UPTIER_LAB", "demo"), help="default: $UPTIER_LAB, else demo")
    parser.add_argument("--net", default=os.environ.get("UPTIER_LAB_NET"), help="first three numbers, e.g. 10.84.10; default: a free one")
    parser.add_argument("--all", action="store_true", help="down: every lab")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--inventory", type=Path, help="a directory with hosts.yml (lab_release, lab_number per host)")
    source.add_argument("--molecule", type=Path, help="a molecule.yml with platforms")
    arguments = parser.parse_args()
    try:
        if arguments.all and arguments.action == "down":
            for name in Lab.names():
                Lab(name, []).down()
            return
        hosts: list[Host] = []
        if arguments.inventory:
            hosts = hosts_of_inventory(arguments.inventory)
        elif arguments.molecule:
            hosts = hosts_of_molecule(arguments.molecule)
        elif arguments.action in ("up", "wait", "describe"):
            parser.error(f"{arguments.action} needs --inventory or --molecule")
        lab = Lab(arguments.name, hosts, arguments.net)
        # Two runs on one lab would each find half of it.
        CACHE.mkdir(exist_ok=True)
        with (CACHE / f"lab-{arguments.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if arguments.action == "wait":
                each(lab._boot, hosts)
            else:
                {"up": lab.up, "down": lab.down, "status": lab.status, "describe": lab.describe}[arguments.action]()
    except Problem as problem:
        stop("lab", problem)


if __name__ == "__main__":
    main()
