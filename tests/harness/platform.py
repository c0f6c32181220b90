# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A running platform of containers as a test sees it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import yaml

from . import engine
from .enter import Reach

ROOT = Path(__file__).resolve().parents[2]
RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)"
    r"\s+failed=(?P<failed>\d+)\s+skipped=(?P<skipped>\d+)",
    re.MULTILINE,
)
# Who listens, by name. Read here as it is written, so that a fault of the product's own reading shows.
PORTS: dict[str, dict[str, Any]] = {
    port["name"]: port for port in yaml.safe_load((ROOT / "roles/platform/vars/flows.yml").read_text(encoding="utf-8"))["platform_ports"]
}
T = TypeVar("T")


@dataclass
class Run:
    """The end of one ansible-playbook: exit status, output, counts by host, seconds."""

    status: int
    output: str
    seconds: float

    @property
    def hosts(self) -> dict[str, dict[str, int]]:
        tail = self.output[self.output.rfind("PLAY RECAP") :]
        return {
            match["host"]: {key: int(value) for key, value in match.groupdict().items() if key != "host"} for match in RECAP.finditer(tail)
        }

    def changed(self) -> dict[str, int]:
        return {host: counts["changed"] for host, counts in self.hosts.items() if counts["changed"]}

    def results(self) -> dict[str, int]:
        """Task results by host: ok (changed ones are among them) and skipped."""
        return {host: counts["ok"] + counts["skipped"] for host, counts in self.hosts.items()}

    def changed_tasks(self) -> list[str]:
        """The headings under which something changed, for a readable failure."""
        found, task = [], ""
        for line in self.output.splitlines():
            if line.startswith(("TASK [", "RUNNING HANDLER [")):
                task = line.split("[", 1)[1].split("]")[0]
            elif line.startswith("changed: ["):
                found.append(f"{line.split('[')[1].split(']')[0]}: {task}")
        return found


class Platform:
    """Hosts by their inventory names; every command runs inside them as Ansible's do."""

    def __init__(self, inventory: Path, lab: str, tier: str) -> None:
        self.inventory, self.lab, self.tier = inventory, lab, tier
        self.net = os.environ.get("UPTIER_LAB_NET", "10.84.10")
        self.read()
        self.reach = Reach.of(next(iter(self.hostvars.values())).get("ansible_connection"))

    def read(self) -> None:
        """Take the inventory as it is now."""
        listing = subprocess.run(
            [self.tool("ansible-inventory"), "-i", str(self.inventory), "--list", *self.vault_arguments()],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        self.data: dict[str, Any] = json.loads(listing.stdout)
        # These are not templated: what the inventory computes has to be computed here as well.
        self.hostvars: dict[str, dict[str, Any]] = self.data["_meta"]["hostvars"]

    def declare(self, host: str, variables: dict[str, Any], group: str) -> None:
        """Write one host more into the inventory."""
        with self._hosts() as known:
            known["hosts"][host] = variables
            known["children"][group]["hosts"][host] = None

    def give(self, hosts: list[str], **variables: Any) -> None:
        """Set variables of hosts in the inventory."""
        with self._hosts() as known:
            for host in hosts:
                known["hosts"][host] = {**(known["hosts"][host] or {}), **variables}

    def undeclare(self, host: str) -> None:
        """Take a host out of the inventory."""
        with self._hosts() as known:
            known["hosts"].pop(host, None)
            for group in known["children"].values():
                group["hosts"].pop(host, None)

    @contextlib.contextmanager
    def _hosts(self) -> Iterator[dict[str, Any]]:
        """Hosts and groups of the inventory's page, to be changed."""
        path = self.inventory / "hosts.yml"
        page = yaml.safe_load(path.read_text(encoding="utf-8"))
        yield page["all"]
        path.write_text(yaml.safe_dump(page), encoding="utf-8")
        self.read()

    @staticmethod
    def tool(name: str) -> str:
        return str(Path(sys.executable).parent / name)

    def vault_arguments(self) -> list[str]:
        password = self.inventory / ".vault_password"
        return ["--vault-password-file", str(password)] if password.exists() else []

    def group(self, name: str) -> list[str]:
        return list(self.data.get(name, {}).get("hosts", []))

    @property
    def hosts(self) -> list[str]:
        return sorted(self.hostvars)

    def container(self, host: str) -> str:
        return f"{self.lab}-{host}"

    def address(self, host: str) -> str:
        """The host's address on the lab's own network."""
        return f"{self.net}.{self.hostvars[host]['lab_number']}"

    def port(self, host: str, name: str) -> int:
        """Where something listens on a host: what the inventory says, else the default."""
        row = PORTS[name]
        return self.port(host, row["of"]) + row["plus"] if "of" in row else int(self.hostvars[host].get(row.get("variable"), row["port"]))

    def secrets(self) -> list[str]:
        """What to search for to find any secret of the vault, however it is quoted there: its random part, if that cannot be met by chance."""
        variables = next(iter(self.hostvars.values()))
        chosen = [text for name, value in variables.items() if name.startswith("vault_") for text in texts(value)]
        parts = [max(re.findall(r"[A-Za-z0-9]+", text), key=len) for text in chosen]
        found = [part if len(part) >= 16 else text for part, text in zip(parts, chosen, strict=True)]
        assert len(found) > 10, "the vault holds fewer secrets than the platform needs"
        return found

    # Commands ---------------------------------------------------------------------------------------------------

    def run(self, host: str, command: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell line as root inside a host."""
        seen = self.reach.run(self.container(host), ["sh", "-c", command], timeout=timeout)
        done = subprocess.CompletedProcess(seen.args, seen.returncode, seen.stdout.decode(), seen.stderr.decode())
        if check and done.returncode:
            raise AssertionError(f"{host}: {command!r} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def output(self, host: str, command: str, timeout: float = 120) -> str:
        return self.run(host, command, timeout=timeout).stdout.strip()

    def write(self, host: str, path: str, text: str) -> None:
        """Put a file into a host, also below a tmpfs, which `docker cp` cannot."""
        self.reach.run(self.container(host), ["sh", "-c", f"cat > {shlex.quote(path)}"], given=text.encode(), timeout=30).check_returncode()

    def background(self, host: str, command: str, stdout: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
        return self.reach.start(self.container(host), ["sh", "-c", command], stdout=stdout)

    def start_playbook(
        self, name: str | None = None, *arguments: str, inventory: Path | None = None, own_session: bool = False
    ) -> subprocess.Popen[str]:
        """A playbook that runs, the tier's without a name; its output is one stream."""
        words = [f"playbooks/{name or self.tier}.yml", "-i", str(inventory or self.inventory), *self.vault_arguments(), *arguments]
        return subprocess.Popen(
            [self.tool("ansible-playbook"), *words],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "UPTIER_LAB": self.lab},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=own_session,
        )

    def playbook(self, name: str | None = None, *arguments: str, inventory: Path | None = None, timeout: float = 1500) -> Run:
        start = time.monotonic()
        with self.start_playbook(name, *arguments, inventory=inventory) as process:
            try:
                output, dummy = process.communicate(timeout=timeout)
            except BaseException:  # as subprocess.run does: nothing goes on running
                process.kill()
                raise
        return Run(process.returncode, output, time.monotonic() - start)

    # Faults -----------------------------------------------------------------------------------------------------

    def kill(self, host: str) -> None:
        """The host loses its power."""
        engine.kill(self.container(host))

    def start(self, host: str) -> None:
        """The host comes back; returns when systemd has started what it should."""
        engine.docker("start", self.container(host))
        wait(f"systemd on {host}", lambda: self.booted(host), seconds=300)

    def cut(self, host: str) -> None:
        """The host's network cable is pulled: its peers get no answer, it has no interface."""
        engine.docker("network", "disconnect", self.lab, self.container(host))

    def heal(self, host: str) -> None:
        """The cable is back."""
        engine.docker("network", "connect", "--ip", self.address(host), self.lab, self.container(host))

    def black_hole(self, host: str, percent: int = 100) -> None:
        """Packets from and to the host vanish, all or some of them, and nobody is told; loopback works on."""
        chance = "" if percent == 100 else f"numgen random mod 100 < {percent} "
        rules = "".join(
            f"add chain inet fault {hook} {{ type filter hook {hook} priority -400; }}\n"
            f"add rule inet fault {hook} {'iif' if hook == 'input' else 'oif'} != lo {chance}drop\n"
            for hook in ("input", "output")
        )
        self.run(host, f"nft -f - <<'END'\nadd table inet fault\n{rules}END")

    def fill_hole(self, host: str) -> None:
        """The packets arrive again."""
        self.run(host, "nft delete table inet fault")

    def booted(self, host: str) -> bool:
        done = self.run(host, "systemctl is-system-running", check=False)
        return done.stdout.strip() in ("running", "degraded")

    # What a test asks often -------------------------------------------------------------------------------------

    def failed_units(self, host: str) -> list[str]:
        return self.output(host, "systemctl list-units --failed --plain --no-legend | cut -d' ' -f1").split()

    def service_starts(self) -> dict[str, dict[str, str]]:
        """By host: every running service with its main process and the moment of its start."""
        starts = {}
        for host in self.hosts:
            text = self.output(
                host,
                "systemctl show --type=service --state=running '*' -p Id -p MainPID -p ExecMainStartTimestampMonotonic",
            )
            services = {}
            for block in text.split("\n\n"):
                fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
                if fields.get("MainPID", "0") != "0":
                    services[fields["Id"]] = f"{fields['MainPID']}@{fields['ExecMainStartTimestampMonotonic']}"
            starts[host] = services
        return starts

    def writable(self, host: str) -> bool:
        """Whether the server of a database host takes writes."""
        return self.sql(host, "select pg_is_in_recovery()", check=False) == "f"

    def leader(self) -> str | None:
        """The database host that leads now, as PostgreSQL itself says."""
        for host in self.group("postgresql"):
            if self.writable(host):
                return host
        return None

    def sql(self, host: str, statement: str, database: str = "postgres", check: bool = True) -> str:
        """One statement as the superuser over the local socket."""
        psql = f"runuser -u postgres -- psql -X -q -A -t -v ON_ERROR_STOP=1 -p {self.port(host, 'postgresql')}"
        line = f"cd /tmp && {psql} -d {database} -c {shlex.quote(statement)}"
        return self.run(host, line, check=check).stdout.strip()

    def members(self) -> list[dict[str, Any]]:
        """Patroni's own list of members, asked of any that answers; empty when none does."""
        for host in self.group("postgresql"):
            done = self.run(
                host,
                "curl -s -m 3 --cacert /etc/uptier/pki/ca.crt --cert /etc/uptier/pki/host.crt --key /etc/uptier/pki/host.key"
                f" https://{host}.internal:{self.port(host, 'patroni')}/cluster || true",
                check=False,
            )
            try:
                return list(json.loads(done.stdout)["members"])
            except (ValueError, KeyError):
                continue
        return []

    def database_healthy(self) -> bool:
        """One leader, and every other declared member streams."""
        states = [(member["role"], member["state"]) for member in self.members()]
        leaders = [role for role, state in states if role == "leader" and state == "running"]
        streaming = [role for role, state in states if role != "leader" and state == "streaming"]
        return len(leaders) == 1 and len(streaming) == len(self.group("postgresql")) - 1

    def redis(self, host: str, *arguments: str, port: int | None = None, check: bool = True) -> str:
        """redis-cli as the administrator, the password in the environment and not in the process list."""
        port = port or self.port(host, "redis")
        password = self.hostvars[host].get("vault_redis_admin_password", "")
        files = [("--cacert", "ca.crt"), ("--cert", "host.crt"), ("--key", "host.key")]
        login = [word for option, name in files for word in (option, f"/etc/uptier/pki/{name}")]
        words = ["redis-cli", "--tls", *login, "--user", "admin", "--no-auth-warning", "-h", f"{host}.internal", "-p", str(port)]
        done = self.reach.run(self.container(host), [*words, *arguments], environment={"REDISCLI_AUTH": str(password)}, timeout=30)
        output = done.stdout.decode()
        if check and done.returncode:
            raise AssertionError(f"{host}:{port} redis-cli {' '.join(arguments)}: {output}{done.stderr.decode()}")
        return output.strip()

    def cache_healthy(self) -> bool:
        """Three masters and three replicas, all connected, none failed, as the second host sees it."""
        host = self.group("redis")[1]
        lines = [line.split() for line in self.redis(host, "cluster", "nodes", check=False).splitlines()]
        linked = [fields for fields in lines if fields[7] == "connected" and "fail" not in fields[2]]
        return len(linked) == 6 and len([fields for fields in linked if "slave" in fields[2]]) == 3


def texts(value: Any) -> list[str]:
    """The texts of eight characters and more in a value, however deep they lie."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [str(value)] if len(str(value)) >= 8 else []


def wait(what: str, ready: Callable[[], T], seconds: float, pause: float = 0.5) -> T:
    """Poll until `ready` returns something true; fail with what was waited for."""
    end = time.monotonic() + seconds
    while True:
        value = ready()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not seen within {seconds:.0f} s (last: {value!r})")
        time.sleep(pause)
