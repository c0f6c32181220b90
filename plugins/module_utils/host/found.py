# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is on a host that the platform did not put there. Reads only.

A program of its own: probe_host sends the text of this file to the host's Python, whatever version that has from 3.9 on, and reads one
line of JSON. So it imports nothing of the collection. What the answer means is for plugin_utils/found.py to say.

A host that the platform has converged is done with after a few questions for files; processes are looked at where something is new.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

# What may listen on a host without being anybody's application.
OF_THE_SYSTEM = ("sshd", "systemd", "systemd-resolve", "systemd-resolved", "systemd-networkd", "chronyd", "ntpd", "dhclient", "dhcpcd")
# Where packages put programs. One from elsewhere is somebody's own.
PACKAGED = ("/usr/bin/", "/usr/sbin/", "/usr/lib/", "/bin/", "/sbin/")
# Directories in which PostgreSQL's data lies by custom.
CLUSTERS = ("var/lib/postgresql/*/*", "var/lib/postgresql/data", "var/lib/postgresql", "var/lib/pgsql/data", "srv/postgresql/*/*")
REDIS = ("var/lib/redis", "var/lib/valkey")
SETTING = re.compile(r"^\s*(data_directory|port)\s*=?\s*'?([^'#\s]+)")
# Chains and tables of a container engine, of the name service that Docker gives to containers, and of fail2ban.
OF_ENGINES = re.compile(r"^(DOCKER|NETAVARK|CNI|LIBVIRT|f2b)", re.IGNORECASE)
# As /proc/net/tcp6 writes addresses: words with their bytes turned round.
LOOPBACK_6 = "00000000000000000000000001000000"
MAPPED = "0000000000000000FFFF0000"
SLOTS = 16384
COMMAND_SECONDS = 10
ANSWER_SECONDS = 2


class Look:
    """One look at a host whose file system begins at `root`."""

    def __init__(self, asked: dict[str, Any], root: str = "/") -> None:
        """`asked` holds: found, claims and marks as roles/platform/vars/found.yml has them, the host's groups, its applications and units."""
        self.asked, self.root = asked, root
        self._packaged: dict[str, str] | None = None
        self._processes: list[dict[str, Any]] | None = None

    def path(self, name: str) -> str:
        return os.path.join(self.root, name.lstrip("/"))

    def name(self, path: str) -> str:
        """Return a path as the host names it."""
        return path if self.root == "/" else "/" + os.path.relpath(path, self.root)

    def exists(self, name: str) -> bool:
        return os.path.lexists(self.path(name))

    def read(self, name: str) -> str:
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return ""

    def answer(self) -> dict[str, Any]:
        platform = any(self.exists(mark) for mark in self.asked["marks"])
        try:
            claims = json.loads(self.read(self.asked["claims"]) or "[]")
        except ValueError:
            claims = []
        ours = [part["name"] for part in self.asked["found"] if any(self.exists(path) for path in part["ours"])]
        result: dict[str, Any] = {"platform": platform, "claims": claims, "ours": ours, "parts": {}, "clusters": [], "redis": []}
        result["redis_masters"] = self.redis_masters() if "Redis" in ours else 0
        result["memory_mb"], result["cpus"] = self.memory(), os.cpu_count() or 1
        result["lives"] = self.lives(ours)
        result["keeps"] = self.keeps(ours, result["redis_masters"])
        result["strange_zone"] = self.strange_zone(self.asked["zone"])
        known = set(claims) | ({"all"} if platform else set())
        strange = [
            part
            for part in self.asked["found"]
            if part["name"] not in ours and (not platform or part["group"] in self.asked["groups"]) and part["group"] not in known
        ]
        # A claim is no proof for PostgreSQL: its package makes no cluster here, so one that Patroni does not lead is somebody's.
        strange += [
            part
            for part in self.asked["found"]
            if part["name"] == "PostgreSQL" and part["name"] not in ours and part["group"] in self.asked["groups"] and part not in strange
        ]
        if platform and not strange:
            return result
        names = {part["name"] for part in strange}
        result["parts"] = {part["name"]: seen for part in strange for seen in [self.part(part)] if any(seen.values())}
        if "PostgreSQL" in names:
            result["clusters"] = self.clusters()
        if "Redis" in names:
            result["redis"] = self.redis()
        result["listeners"] = self.listeners()
        if not platform:
            result["firewalls"] = self.firewalls()
            result["engines"] = self.engines()
        if "app" in self.asked["groups"] and "app" not in known and "HAProxy" not in ours:
            result["users"] = self.users()
            result["units"] = self.units(self.asked["units"])
        return result

    def memory(self) -> int:
        """Return the host's memory in MiB, as Ansible's facts have it; 0 where the kernel does not say it."""
        seen = re.search(r"^MemTotal:\s+(\d+) kB", self.read("/proc/meminfo"), re.MULTILINE)
        return int(seen[1]) // 1024 if seen else 0

    # -- Files
    def packaged(self) -> dict[str, str]:
        """Return the checksums of configuration files as packages brought them, by path."""
        if self._packaged is None:
            status = self.read("/var/lib/dpkg/status")
            self._packaged = dict(re.findall(r"^ (/\S+) ([0-9a-f]{32})(?: obsolete)?$", status, re.MULTILINE))
        return self._packaged

    def changed(self, name: str) -> bool:
        """Tell whether a file is there and is not as its package has brought it."""
        real = os.path.realpath(self.path(name))
        if not os.path.isfile(real):
            return False
        with open(real, "rb") as stream:
            digest = hashlib.md5(stream.read(), usedforsecurity=False).hexdigest()
        return self.packaged().get(self.name(real)) != digest

    def units(self, names: Iterable[str]) -> list[str]:
        """Return unit files that somebody wrote. A link to one (alias, mask) is none."""
        paths = [f"/etc/systemd/system/{name}" for name in names]
        return [path for path in paths if os.path.isfile(self.path(path)) and not os.path.islink(self.path(path))]

    def part(self, part: dict[str, Any]) -> dict[str, Any]:
        programs = [process for process in self.processes() if process["program"] in part["programs"]]
        data = [self.name(path) for pattern in part.get("data", ()) for path in sorted(glob.glob(self.path(pattern)))]
        return {
            "programs": [one for one in programs if part.get("stateful") or (one["exe"] and not one["exe"].startswith(PACKAGED))],
            "settings": [path for path in part.get("settings", ()) if self.changed(path)],
            "data": [path for path in data if not os.path.isfile(self.path(path)) or self.changed(path)],
            "units": self.units(part.get("units", ())),
        }

    def users(self) -> list[dict[str, str]]:
        found = []
        for line in self.read("/etc/passwd").splitlines():
            fields = line.split(":")
            name = fields[0]
            if name in self.asked["applications"] and not self.exists(f"/etc/sysusers.d/uptier-app-{name}.conf"):
                found.append({"name": name, "uid": fields[2], "home": fields[5]})
        return found

    def strange_zone(self, name: str) -> dict[str, str]:
        """Return {name, near} of a time zone that the host does not know; nothing where it knows it, or has no list yet.

        The list has old names too, whose files are in a package of their own on some releases.
        """
        lines = re.findall(r"^(?:Z (\S+) .*|L \S+ (\S+))$", self.read("/usr/share/zoneinfo/tzdata.zi"), re.MULTILINE)
        names = ["".join(pair) for pair in lines]
        if not names or name in names or (name and os.path.isfile(self.path(f"/usr/share/zoneinfo/{name}"))):
            return {}
        import difflib  # hardly ever needed

        return {"name": name, "near": "".join(difflib.get_close_matches(name, names, n=1, cutoff=0.6))}

    # -- Processes
    def processes(self) -> list[dict[str, Any]]:
        """Return the processes outside of containers as {program, exe, pid, parent, cwd, unit}."""
        if self._processes is None:
            self._processes = [seen for pid in self.pids() for seen in [self.process(pid)] if seen]
        return self._processes

    def pids(self) -> list[str]:
        return [entry for entry in os.listdir(self.path("proc")) if entry.isdigit()] if os.path.isdir(self.path("proc")) else []

    def process(self, pid: str) -> dict[str, Any] | None:
        group = self.read(f"proc/{pid}/cgroup")
        stat = self.read(f"proc/{pid}/stat")
        if not stat or re.search(r"/(docker|libpod|lxc|machine|kubepods)[-/]", group):
            return None
        unit = re.search(r"([\w@.\\:-]+\.service)$", group.strip(), re.MULTILINE)
        return {
            "program": self.program(pid),
            "exe": self.link(f"proc/{pid}/exe"),
            "pid": int(pid),
            "parent": int(stat[stat.rindex(")") + 1 :].split()[1]),
            "cwd": self.link(f"proc/{pid}/cwd"),
            "unit": unit.group(1) if unit else "",
        }

    def program(self, pid: str) -> str:
        """Return what a process is called. The kernel keeps 15 letters; where these are used up, its file has the rest."""
        name = re.sub(r"^\d+ \((.*)\).*$", r"\1", self.read(f"proc/{pid}/stat"), flags=re.DOTALL)
        return name if len(name) < 15 else os.path.basename(self.link(f"proc/{pid}/exe")) or name

    def link(self, name: str) -> str:
        try:
            return self.as_owner(os.readlink, self.path(name))
        except OSError:
            return ""

    def as_owner(self, look: Callable[[str], Any], path: str) -> Any:
        """Look at something of a process; in a container root may not, and the process's own user may."""
        try:
            return look(path)
        except PermissionError:
            owner = os.stat(path[: path.index("/", path.index("proc/") + 5)])
            group, user = os.getegid(), os.geteuid()
            try:
                os.setegid(owner.st_gid)
                os.seteuid(owner.st_uid)
                return look(path)
            finally:
                os.seteuid(user)
                os.setegid(group)

    def listeners(self) -> list[dict[str, Any]]:
        """Return who listens for TCP, as {port, program, everywhere}; everywhere is false for loopback."""
        sockets = {}
        for family in ("tcp", "tcp6"):
            for line in self.read(f"proc/net/{family}").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":
                    address, _colon, port = fields[1].partition(":")
                    loopback = address == LOOPBACK_6 or (address.endswith("7F") and address[:-8] in ("", MAPPED))
                    sockets[fields[9]] = (int(port, 16), not loopback)
        found = {}
        for pid in self.pids() if sockets else ():
            for inode in self.inodes(pid):
                if inode in sockets:
                    port, everywhere = sockets.pop(inode)
                    seen = found.setdefault(port, {"port": port, "program": self.program(pid), "everywhere": False})
                    seen["everywhere"] = seen["everywhere"] or everywhere
        return [found[port] for port in sorted(found) if found[port]["program"] not in OF_THE_SYSTEM]

    def inodes(self, pid: str) -> list[str]:
        """Return the sockets that a process has open."""
        try:
            entries = self.as_owner(os.listdir, self.path(f"proc/{pid}/fd"))
        except OSError:
            return []
        links = [self.link(f"proc/{pid}/fd/{entry}") for entry in entries]
        return [link[8:-1] for link in links if link.startswith("socket:[")]

    # -- PostgreSQL
    def clusters(self) -> list[dict[str, Any]]:
        """Return the clusters as {name, version, data, config, port, running}: Debian's, and data directories wherever one is known."""
        running = {one["cwd"]: one for one in self.processes() if one["program"] in ("postgres", "postmaster") and self.is_server(one)}
        found = {}
        for path in sorted(glob.glob(self.path("etc/postgresql/*/*/postgresql.conf"))):
            config = self.name(path)
            version, name = config.split("/")[3:5]
            settings = dict(SETTING.match(line).groups() for line in self.read(config).splitlines() if SETTING.match(line))
            data = settings.get("data_directory", f"/var/lib/postgresql/{version}/{name}")
            if self.exists(f"{data}/PG_VERSION"):
                found[os.path.realpath(self.path(data))] = self.cluster(data, f"{version}/{name}", config, settings.get("port", ""))
        places = [path for pattern in CLUSTERS for path in sorted(glob.glob(self.path(pattern)))] + sorted(map(self.path, running))
        for path in places:
            data = self.name(path)
            if os.path.realpath(path) not in found and self.exists(f"{data}/PG_VERSION"):
                found[os.path.realpath(path)] = self.cluster(data, data, "", "")
        for one in found.values():
            one["running"] = one["data"] in running or os.path.realpath(one["data"]) in running
        return list(found.values())

    def cluster(self, data: str, name: str, config: str, port: str) -> dict[str, Any]:
        version = self.read(f"{data}/PG_VERSION").strip()
        if not port:
            lines = self.read(f"{data}/postmaster.pid").splitlines()
            port = lines[3] if len(lines) > 3 else ""
        return {
            "name": name,
            "version": version,
            "data": data,
            "config": config,
            "port": int(port) if port.isdigit() else self.asked["port"],
        }

    def is_server(self, process: dict[str, Any]) -> bool:
        """Tell a server from its children, which have its working directory as well."""
        return not any(one["pid"] == process["parent"] and one["program"] == process["program"] for one in self.processes())

    # -- Redis
    def redis(self) -> list[dict[str, Any]]:
        """Return data of Redis as {where, keys}; keys is a number, or null where that is not known."""
        found: list[dict[str, Any]] = []
        servers = [one for one in self.processes() if one["program"] in ("redis-server", "valkey-server")]
        ports = {one["program"]: one["port"] for one in self.listeners() if one["program"] in ("redis-server", "valkey-server")}
        for one in servers:
            port = ports.get(one["program"])
            found.append({"where": f"port {port}" if port else one["cwd"], "keys": self.keys(port) if port else None})
        # A server's own files say nothing beyond what it has said itself.
        known = {one["cwd"] for one in servers}
        for directory in map(self.path, REDIS):
            if self.name(directory) in known:
                continue
            for path in sorted(glob.glob(f"{directory}/*.rdb") + glob.glob(f"{directory}/append*/*.rdb")):
                if self.holds_keys(path):
                    found.append({"where": self.name(path), "keys": None})
            for path in sorted(glob.glob(f"{directory}/append*/*.aof") + glob.glob(f"{directory}/*.aof")):
                if os.path.getsize(path):
                    found.append({"where": self.name(path), "keys": None})
        return found

    def lives(self, ours: list[str]) -> dict[str, str]:
        """Return under which address and port the platform's own members with data are known to others: {etcd_peer, etcd_client, redis}."""
        found = {}
        if "etcd" in ours and self.exists("var/lib/etcd/default/member"):
            text = self.read("etc/etcd/etcd.env")
            for name, key in (("etcd_peer", "ETCD_INITIAL_ADVERTISE_PEER_URLS"), ("etcd_client", "ETCD_ADVERTISE_CLIENT_URLS")):
                match = re.search(rf"^{key}=https://(\S+)$", text, re.MULTILINE)
                if match:
                    found[name] = match[1]
        if "Redis" in ours and glob.glob(self.path("var/lib/redis/*/nodes.conf")):
            match = re.search(r"^cluster-announce-ip (\S+)$", self.read("etc/redis/node.conf"), re.MULTILINE)
            if match:
                found["redis"] = match[1]
        return found

    def keeps(self, ours: list[str], masters: int) -> list[str]:
        """Return what the platform keeps here that must not begin anew elsewhere: etcd, postgresql, redis, repository, metrics."""
        repository = re.search(r"^repo1-path=(.+)$", self.read("etc/pgbackrest/pgbackrest.conf"), re.MULTILINE)
        kept = {
            "etcd": "etcd" in ours and self.exists("var/lib/etcd/default/member"),
            "postgresql": "PostgreSQL" in ours and bool(glob.glob(self.path("var/lib/postgresql/*/*/PG_VERSION"))),
            "redis": masters > 0,
            # On a host whose settings name another one it is what was left there.
            "repository": "pgBackRest" in ours
            and repository is not None
            and bool(glob.glob(self.path(f"{repository[1]}/backup/*/backup.info"))),
            "metrics": "Prometheus" in ours and bool(glob.glob(self.path("var/lib/prometheus/metrics2/*"))),
        }
        return [name for name, there in kept.items() if there]

    def redis_masters(self) -> int:
        """Return how many masters share all slots of the platform's own cluster, as its nodes remember it; 0 where none do."""
        for path in sorted(glob.glob(self.path("var/lib/redis/*/nodes.conf"))):
            owners, slots = 0, 0
            for words in map(str.split, self.read(self.name(path)).splitlines()):
                ranges = [word.split("-") for word in words[8:] if word.replace("-", "").isdigit()]
                if ranges and "master" in words[2].split(","):
                    owners += 1
                    slots += sum(int(span[-1]) - int(span[0]) + 1 for span in ranges)
            if slots == SLOTS:
                return owners
        return 0

    def keys(self, port: int) -> int | None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection:
                connection.sendall(b"INFO keyspace\r\n")
                text = connection.recv(65536).decode("utf-8", "replace")
        except OSError:
            return None
        return sum(map(int, re.findall(r"keys=(\d+)", text))) if text.startswith("$") else None

    def holds_keys(self, path: str) -> bool:
        """Tell whether a dump has more than its head: after the auxiliary fields (0xFA) an empty one ends (0xFF)."""
        with open(path, "rb") as stream:
            content = stream.read(4096)
        place = 9
        try:
            while content[place] == 0xFA:
                place += 1
                for _field in range(2):
                    place += self.string_length(content, place)
            return content[place] != 0xFF
        except IndexError:
            return bool(content)

    def string_length(self, content: bytes, place: int) -> int:
        """Return how many bytes a string takes in a dump, with its head."""
        first = content[place]
        kind = first >> 6
        if kind == 0:
            return 1 + (first & 0x3F)
        if kind == 1:
            return 2 + ((first & 0x3F) << 8 | content[place + 1])
        if kind == 3 and first & 0x3F < 3:
            return 1 + (1, 2, 4)[first & 0x3F]
        return len(content)

    # -- The host as a whole
    def engines(self) -> list[dict[str, Any]]:
        """Return container engines that run, as {name, containers}."""
        programs = {one["program"] for one in self.processes()}
        found = []
        if "dockerd" in programs:
            found.append({"name": "Docker", "containers": len(glob.glob(self.path("var/lib/docker/containers/*")))})
        for name, program in (("LXD", "lxd"), ("Incus", "incusd"), ("Kubernetes", "kubelet")):
            if program in programs:
                found.append({"name": name, "containers": 0})
        return found

    def firewalls(self) -> list[dict[str, str]]:
        """Return what filters besides the platform, as {name, detail}."""
        found = []
        if re.search(r"^\s*ENABLED\s*=\s*yes", self.read("/etc/ufw/ufw.conf"), re.MULTILINE | re.IGNORECASE):
            found.append({"name": "ufw", "detail": "ENABLED=yes in /etc/ufw/ufw.conf"})
        enabled = glob.glob(self.path("etc/systemd/system/*.wants/firewalld.service"))
        if enabled or "firewalld" in {one["program"] for one in self.processes()}:
            found.append({"name": "firewalld", "detail": "its service is enabled or runs"})
        # Both put their rules into tables that would be named once more.
        return found or self.tables()

    def run(self, *command: str) -> str:
        if self.root != "/" or not shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin"):
            return ""
        environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, env=environment, check=False)
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout

    def tables(self) -> list[dict[str, str]]:
        found = []
        for name in ("iptables-save", "iptables-legacy-save", "ip6tables-save"):
            rules = rules_of_iptables(self.run(name))
            if rules:
                found.append({"name": "iptables", "detail": f"{len(rules)} rules, the first is {rules[0]}"})
                break
        for table in tables_of_nftables(self.run("nft", "list", "ruleset")):
            found.append({"name": table, "detail": "a table of nftables that drops or rejects"})
        return found


def rules_of_iptables(text: str) -> list[str]:
    """Return the rules of the table filter that are no container engine's, in the words of iptables-save."""
    found, table = [], ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        fields = line.split()
        if table == "filter" and fields[:1] == ["-A"] and not any(OF_ENGINES.match(field) for field in (fields[1], fields[-1])):
            found.append(line)
        if table == "filter" and line.startswith(":") and fields[0] in (":INPUT",) and fields[1] == "DROP":
            found.append(f"policy DROP of {fields[0][1:]}")
    return found


def tables_of_nftables(text: str) -> list[str]:
    """Return the tables that keep something out, as `inet filter`. Those of iptables, engines, fail2ban and the platform are left out."""
    found = []
    for block in re.split(r"^(?=table )", text, flags=re.MULTILINE):
        head = re.match(r"table (\w+) (\S+) \{", block)
        if not head or head.group(2) == "platform" or OF_ENGINES.match(head.group(2)):
            continue
        # iptables keeps its rules in these; iptables-save has named them.
        if head.group(1) in ("ip", "ip6") and head.group(2) in ("filter", "nat", "mangle", "raw", "security"):
            chains = re.findall(r"chain (\w+)", block)
            if all(chain.isupper() or OF_ENGINES.match(chain) or "_" in chain for chain in chains):
                continue
        if re.search(r"policy drop|\b(drop|reject)\b", block):
            found.append(f"{head.group(1)} {head.group(2)}")
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(Look(json.loads(sys.argv[1])).answer()) + "\n")
