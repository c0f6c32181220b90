# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare PostgreSQL as the role sets it with its own defaults and with what others set, by pgbench.

Two scratch clusters run side by side, one with PostgreSQL's own settings and one with each of the others in turn, and are asked the
same at the same time. They share the processors and the disk, so whatever else the machine does slows both, and what counts is
the ratio of their transactions; PostgreSQL's own settings are compared with themselves too, which shows how exact that is. The two
change places every round. The first seconds of a run, in which each connection touches the shared memory for the first time, are
not counted: applications keep their connections. Nothing is installed and nothing stays: the programs are those of this machine
(Debian's package postgresql), else of a test host made for it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engine
import images
import yaml
from lab import Host, Lab
from support import ROOT, Problem, releases, run, say, stop

DATA = Path(__file__).with_suffix(".yml")
ROLE = ROOT / "roles" / "postgresql"
BASE, OURS = "default", "uptier"
LAB = "bench-postgresql"
# Only where the files are, who may connect and what others read of it: not what makes it fast or slow on one host.
LEFT_OUT = re.compile(r"ssl|archive|unix_socket_directories$|password_encryption$|hot_standby$|tcp_|timezone$|log_timezone$")
# What pgbench says every second of a run.
PROGRESS = re.compile(r"^progress: ([0-9.]+) s, ([0-9.]+) tps", re.MULTILINE)
# Seconds at the start of a run that are not counted, and at its end, where one of the two may be done already.
WARMING, ENDING = 2, 1
Results = dict[tuple[str, str], list[float]]


# --- pure ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """A median and what it hides."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        """Write it as it stands in the report."""
        return f"{self.median:.2f} ({self.least:.2f}..{self.most:.2f})"


def transactions(output: str, seconds: float) -> float:
    """Return the transactions a second of the counted part of a run from what pgbench prints every second."""
    counted = [float(rate) for at, rate in PROGRESS.findall(output) if WARMING + 0.5 < float(at) <= seconds - ENDING + 0.5]
    if not counted or not any(counted):
        raise Problem(f"pgbench printed no transactions a second:\n{output.strip()[-800:]}")
    return statistics.fmean(counted)


def order(names: Sequence[str], number: int) -> list[str]:
    """Return the names in the order of a round: each begins once, and every other round goes backwards."""
    step = 1 if number % 2 == 0 else -1
    return [names[(number + step * index) % len(names)] for index in range(len(names))]


def report(results: Results, titles: Sequence[str], profiles: Sequence[str]) -> str:
    """Return a table: each profile's ratio to PostgreSQL's own settings, as median, least and most of all rounds."""
    lines = [f"| pgbench | {' | '.join(profiles)} |", f"|---|{'---|' * len(profiles)}"]
    for title in titles:
        cells = [str(Spread.of(results[title, profile])) for profile in profiles]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def our_settings(fixed: Mapping[str, Any], computed: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the role sets: its fixed settings, those that it fills in (given here), the computed ones."""
    kept = {name: value for name, value in fixed.items() if not LEFT_OUT.match(name)}
    open_ones = sorted(name for name, value in kept.items() if "{{" in str(value) and name not in given)
    if open_ones:
        raise Problem(f"the role fills in {', '.join(open_ones)}, and the benchmark does not know with what.")
    return {**kept, **{name: given[name] for name in kept if name in given}, **computed}


def configuration(settings: Mapping[str, Any]) -> str:
    """Write settings as in postgresql.conf."""
    return "".join(f"{name} = '{str(value).replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())


# --- where it runs ---------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """Where PostgreSQL's programs are, and how they are run there as somebody other than root."""

    prefix: list[str]
    programs: str
    home: str = ""
    running: bool = False
    databases: list[str] = field(default_factory=list)

    def do(self, *words: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """Run a command there and return its output."""
        return run(*self.prefix, *words, stdin=stdin, check=check, timeout=timeout).stdout

    def program(self, name: str, *words: str, **more: Any) -> str:
        """Run one of PostgreSQL's programs there."""
        return self.do(f"{self.programs}/{name}", *words, **more)

    def make(self) -> None:
        """Make an empty cluster, with checksums, as all that are compared have them."""
        self.home = self.do("mktemp", "-d", "/var/tmp/uptier-bench.XXXXXX").strip()
        self.program(
            "initdb", "-D", f"{self.home}/data", "--data-checksums", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "bench"
        )

    def start(self, settings: Mapping[str, Any]) -> None:
        """Start it with these settings and nothing of former ones."""
        self.halt()
        ours = {"listen_addresses": "", "unix_socket_directories": self.home, **settings}
        self.do("sh", "-c", f"cat >{self.home}/data/postgresql.conf", stdin=configuration(ours))
        self.running = True
        self.program("pg_ctl", "-D", f"{self.home}/data", "-l", f"{self.home}/log", "-w", "-s", "start")

    def halt(self) -> None:
        """Stop it in good order, so that the next start recovers nothing."""
        if self.running:
            self.program("pg_ctl", "-D", f"{self.home}/data", "-m", "fast", "-w", "-s", "stop")
            self.running = False

    def sql(self, text: str, database: str = "postgres") -> None:
        """Run a statement."""
        self.program("psql", "-h", self.home, "-U", "bench", "-d", database, "-qAtX", "-c", text)

    def fill(self, scale: int) -> None:
        """Make a database of this scale unless there is one."""
        name = f"scale{scale}"
        if name not in self.databases:
            self.sql(f"CREATE DATABASE {name}")
            self.program("pgbench", "-h", self.home, "-U", "bench", "-i", "-q", "-s", str(scale), name, timeout=300)
            self.databases.append(name)

    def pgbench(self, scale: int, script: str, clients: int, seconds: float) -> str:
        """Run pgbench and return what it prints."""
        words = ("-h", self.home, "-U", "bench", "-b", script, "-c", str(clients), "-j", "2", "-T", str(int(seconds)), "-P", "1")
        both = ("sh", "-c", 'exec "$@" 2>&1', "sh")  # progress is written to the other output
        return self.do(*both, f"{self.programs}/pgbench", *words, f"scale{scale}", timeout=seconds + 120)

    def remove(self) -> None:
        """Stop it at once and remove everything."""
        if self.home:
            if self.running:
                with contextlib.suppress(Problem):
                    self.program("pg_ctl", "-D", f"{self.home}/data", "-m", "immediate", "-w", "-s", "stop")
            self.do("rm", "-rf", self.home)


def local_programs() -> Path | None:
    """Return the directory of this machine's newest PostgreSQL server with pgbench."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("postgres")
    if found:
        candidates.insert(0, Path(found).resolve().parent)
    fitting = [path for path in candidates if all((path / name).exists() for name in ("initdb", "postgres", "pg_ctl", "pgbench", "psql"))]
    return fitting[-1] if fitting else None


@contextlib.contextmanager
def places(where: str, release: int) -> Iterator[tuple[Place, Place]]:
    """Yield two clusters side by side and clean up after them, whatever happens."""
    programs = local_programs() if where != "container" else None
    if programs is None and where == "machine":
        raise Problem("no PostgreSQL server with pgbench here. Debian: apt-get install postgresql; or let it run in a container.")
    lab = None
    if programs is not None:
        prefix = ["env", "-C", "/"]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *prefix]
        both = Place(prefix, str(programs)), Place(prefix, str(programs))
    else:
        say("bench: making a test host for it" + ("" if where else ", as this machine has no PostgreSQL server with pgbench"))
        engine.up()
        images.build(release)
        lab = Lab(LAB, [Host("db", release, 11)])
        prefix = ["docker", "exec", "-i", "-u", "postgres", "-w", "/", f"{LAB}-db"]
        version = releases()[release]["postgresql"]
        both = Place(prefix, f"/usr/lib/postgresql/{version}/bin"), Place(prefix, f"/usr/lib/postgresql/{version}/bin")
    try:
        if lab:
            lab.up()
            install = "mkdir -p /etc/postgresql-common && echo create_main_cluster=false >/etc/postgresql-common/createcluster.conf && "
            install += (
                f"apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-{version}"
            )
            run("docker", "exec", f"{LAB}-db", "sh", "-c", install, timeout=600)
        for one in both:
            one.make()
        yield both
    finally:
        if lab:
            lab.down()
        else:
            for one in both:
                one.remove()


# --- the run ---------------------------------------------------------------------------------------------------------


def tuned(host: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tuning function of this checkout says to a host."""
    spec = importlib.util.spec_from_file_location("postgresql_tuning", ROOT / "plugins" / "plugin_utils" / "postgresql_tuning.py")
    if spec is None or spec.loader is None:
        raise Problem("plugins/plugin_utils/postgresql_tuning.py cannot be loaded.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.postgresql_settings(**host)


def all_profiles(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of all profiles, ours as the role has them now."""
    variables = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    given = {
        "max_connections": data["host"]["connections"],
        "max_worker_processes": data["host"]["workers"],
        "shared_preload_libraries": ",".join(defaults["postgresql_preload_libraries"]),
        "log_min_duration_statement": defaults["postgresql_log_min_duration_ms"],
    }
    return {**data["profiles"], OURS: our_settings(variables["__postgresql_fixed"], tuned(data["host"]), given)}


@contextlib.contextmanager
def checkpoints(server: Place, seconds: float) -> Iterator[None]:
    """Ask for a checkpoint every so many seconds while something else runs; 0 asks for none."""
    done = threading.Event()

    def ask() -> None:
        while not done.wait(seconds):
            server.sql("CHECKPOINT")

    asking = threading.Thread(target=ask, daemon=True)
    if seconds:
        asking.start()
    try:
        yield
    finally:
        done.set()
        if seconds:
            asking.join()


def measure(server: Place, scenario: Mapping[str, Any], seconds: float) -> float:
    """Return the transactions a second of one scenario with the settings that run now."""
    with checkpoints(server, scenario.get("checkpoint_seconds", 0)):
        return transactions(server.pgbench(scenario["scale"], scenario["script"], scenario["clients"], seconds), seconds)


def side_by_side(base: Place, other: Place, scenario: Mapping[str, Any], seconds: float) -> float:
    """Ask two clusters the same at the same time; return the ratio of the other's transactions to the first one's."""
    for server in (base, other):
        server.sql("CHECKPOINT")
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(measure, server, scenario, seconds) for server in (base, other)]
        return asked[1].result() / asked[0].result()


def compare(both: tuple[Place, Place], data: Mapping[str, Any], plan: Mapping[str, Any]) -> Results:
    """Run all rounds that fit into the time."""
    profiles, scenarios = all_profiles(data), data["scenarios"]
    results: Results = {(scenario["title"], name): [] for scenario in scenarios for name in profiles}
    deadline, longest = time.monotonic() + plan["minutes"] * 60, 0.0
    for server in both:
        server.start({})
        for scenario in scenarios:
            server.fill(scenario["scale"])
    for number in range(plan["rounds"]):
        begun = time.monotonic()
        if begun + longest > deadline:
            say(f"bench: the time is up after {number} of {plan['rounds']} rounds")
            break
        measured: dict[tuple[str, str], float] = {}
        base, other = both if number % 2 == 0 else both[::-1]
        for name in order(list(profiles), number):
            base.start(profiles[BASE])
            other.start(profiles[name])
            for scenario in scenarios:
                measured[scenario["title"], name] = side_by_side(base, other, scenario, plan["seconds"])
        # Half a round counts for nothing: it would show one order alone.
        for key, value in measured.items():
            results[key].append(value)
        longest = max(longest, time.monotonic() - begun)
        say(f"bench: round {number + 1} of {plan['rounds']} took {time.monotonic() - begun:.0f} s")
    return results


def interrupted(number: int, frame: Any) -> None:
    """End as on Ctrl-C, so that everything is cleaned up."""
    raise KeyboardInterrupt


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five minutes instead of twenty; enough to see that it works")
    parser.add_argument("--where", choices=["machine", "container"], help="default: the machine when it has PostgreSQL, else a container")
    parser.add_argument("--release", type=int, choices=sorted(releases()), help="in a container of this release of Debian")
    arguments = parser.parse_args()
    data = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    signal.signal(signal.SIGTERM, interrupted)
    try:
        with places("container" if arguments.release else arguments.where or "", arguments.release or 12) as both:
            version = both[0].program("postgres", "--version").strip()
            say(f"bench: {version}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before it begins")
            results = compare(both, data, data["runs"]["quick" if arguments.quick else "usual"])
        if not all(results.values()):
            raise Problem("not one round was completed in the time.")
        rounds = len(next(iter(results.values())))
        say(f"\nRatios to {BASE} at the same time: median of {rounds} rounds (least..most)\n")
        say(report(results, [scenario["title"] for scenario in data["scenarios"]], list(data["profiles"])))
    except KeyboardInterrupt:
        stop("bench", Problem("interrupted; everything was removed."))
    except Problem as problem:
        stop("bench", problem)


if __name__ == "__main__":
    main()
