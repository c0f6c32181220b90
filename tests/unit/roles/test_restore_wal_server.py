# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Promotions of real servers whose repository is healthy, does not answer, refuses, is slow or shows a wrong certificate.

The repository is a program that behaves as pgBackRest 2.45 was seen to: it tries again until its own time is over where nobody
answers or the connection is refused, and ends at once with 103 where the certificate is wrong.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles/postgresql/files/restore_wal.py"
PROGRAMS = [
    *(Path(entry) for entry in os.environ.get("UPTIER_POSTGRESQL", "").split(":") if entry),
    *Path("/usr/lib/postgresql").glob("*/bin"),
]
USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
AS_USER = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
OPTIONS = (
    "listen_addresses=''\nfsync=off\nmax_connections=20\nshared_buffers=16MB\nmin_wal_size=32MB\nmax_wal_size=32MB\nwal_keep_size=0\n"
    "wal_retrieve_retry_interval=2s\nautovacuum=off\n"
)
REPOSITORY = """#!/bin/sh
here=$(dirname "$0")
for word; do case $word in server-ping | archive-get) command=$word ;; esac; name=$target; target=$word; done
trap 'kill $!; exit 143' TERM
waits() { sleep $1 & wait $!; }
case $command-$(cat "$here/kind") in
  *-silent) waits 30; exit 49 ;;
  *-refusing) waits 2; test $command = server-ping || waits 28; exit 49 ;;
  *-late | archive-get-slow) waits 10 ;;
  archive-get-certificate) exit 103 ;;
  archive-get-lame) waits 0.6 ;;
esac
test $command = server-ping || cp "$here/archive/$name" "$target" 2>/dev/null
"""
BAD = ("silent", "refusing", "slow", "late", "certificate")


@dataclass
class Servers:
    """A primary, and standbys that have a repository each."""

    programs: Path
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)

    def program(self, name: str, *words: object) -> None:
        command = [*AS_USER, str(self.programs / name), *map(str, words)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60)

    def start(self, name: str, follows: str | None = None, kind: str = "healthy") -> None:
        """Start a server whose data are there; a standby gets a repository of that kind."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.ports[name] = free.getsockname()[1]  # it names the socket; nothing listens on it
        settings = f"port={self.ports[name]}\nunix_socket_directories='{self.folder}'\n{OPTIONS}"
        if follows:
            here = self.folder / f"{name}-repository"
            here.mkdir()
            (here / "archive").symlink_to(self.folder / "archive")
            (here / "kind").write_text(kind, encoding="ascii")
            (here / "pgbackrest.conf").write_text("repo1-host=backup\nrepo1-host-type=tls\n", encoding="ascii")
            shutil.copy(self.folder / "pgbackrest", here / "pgbackrest")
            shutil.chown(here, USER)
            command = (
                f"/usr/bin/python3 -I -S {self.folder}/restore_wal.py --stanza=main --data={self.folder}/{name} --promotion={here}/promotion "
                f'--memory={here}/memory --pgbackrest={here}/pgbackrest --config={here}/pgbackrest.conf %f "%p"'
            )
            follow = f"host={self.folder} port={self.ports[follows]} user={USER} application_name={name}"
            settings += f"primary_conninfo='{follow}'\nrestore_command='{command}'\n"
            (self.folder / name / "standby.signal").touch()
            shutil.chown(self.folder / name / "standby.signal", USER)
        with open(self.folder / name / "postgresql.conf", "a", encoding="utf-8") as stream:
            stream.write(settings)
        self.program("pg_ctl", "-D", self.folder / name, "-w", "-l", self.folder / f"{name}.log", "start")

    def copy(self, *names: str) -> None:
        """Make the data of standbys."""
        first = self.folder / names[0]
        self.program("pg_basebackup", "-h", self.folder, "-p", self.ports["db1"], "-U", USER, "-D", first, "-c", "fast", "-N")
        for name in names[1:]:
            subprocess.run(["cp", "-a", first, self.folder / name], check=True)

    def ask(self, name: str, sql: str) -> str:
        where = ["-h", str(self.folder), "-p", str(self.ports[name]), "-U", USER, "-d", "postgres"]
        command = [str(self.programs / "psql"), "-X", "-A", "-t", "-q", *where, "-c", sql]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    def kill(self, name: str) -> None:
        os.kill(int((self.folder / name / "postmaster.pid").read_text(encoding="ascii").split("\n")[0]), signal.SIGKILL)

    def promote(self, name: str) -> float:
        """Promote as Patroni does, nothing being known of the repository; return the seconds until the server takes writes."""
        here = self.folder / f"{name}-repository"
        (here / "memory").unlink(missing_ok=True)
        begin = time.monotonic()
        (here / "promotion").touch()
        self.program("pg_ctl", "-D", self.folder / name, "-W", "promote")
        until(lambda: self.ask(name, "SELECT pg_is_in_recovery()") == "f", 60)
        return time.monotonic() - begin

    def timeline(self, name: str) -> int:
        return int(self.ask(name, "CHECKPOINT; SELECT timeline_id FROM pg_control_checkpoint()"))


def until(check: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(params=PROGRAMS or [None], ids=lambda path: path.parent.name if path else "none")
def servers(request: pytest.FixtureRequest, write_program: Callable[[Path, str], None]) -> Iterator[Servers]:
    """A primary db1 that archives by copying."""
    if request.param is None or not shutil.which("runuser"):
        pytest.skip("not verified here: no PostgreSQL (Debian package postgresql); scenario ops_failover promotes without a repository")
    with tempfile.TemporaryDirectory(prefix="uptier-pg-") as name:
        folder = Path(name)
        made = Servers(request.param, folder)
        (folder / "archive").mkdir()
        for path in (folder, folder / "archive"):
            shutil.chown(path, USER)
        shutil.copy(PROGRAM, folder / "restore_wal.py")
        write_program(folder / "pgbackrest", REPOSITORY)
        try:
            made.program("initdb", "-D", folder / "db1", "-U", USER, "--auth=trust", "-E", "UTF8", "--locale=C", "-N")
            with open(folder / "db1" / "postgresql.conf", "a", encoding="utf-8") as stream:
                stream.write(f"archive_mode=on\narchive_command='cp %p {folder}/archive/%f'\n")
            made.start("db1")
            made.ask("db1", "CREATE TABLE acknowledged (a int PRIMARY KEY)")
            yield made
        finally:
            for running in folder.glob("*/postmaster.pid"):
                subprocess.run(
                    [*AS_USER, made.programs / "pg_ctl", "-D", running.parent, "-w", "-m", "immediate", "stop"],
                    check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
                )  # fmt: skip


def test_a_promotion_does_not_wait_for_the_repository(servers: Servers) -> None:
    """All standbys stream, the primary dies, and they are promoted one after the other, each as if it were alone."""
    servers.copy("healthy", *BAD)
    for kind in ("healthy", *BAD):
        servers.start(kind, "db1")
        until(lambda kind=kind: servers.ask(kind, "SELECT status FROM pg_stat_wal_receiver") == "streaming")
    servers.ask("db1", "INSERT INTO acknowledged SELECT generate_series(1, 1000)")
    end = servers.ask("db1", "SELECT pg_current_wal_flush_lsn()")
    for kind in ("healthy", *BAD):
        until(lambda kind=kind: servers.ask(kind, f"SELECT pg_last_wal_receive_lsn() >= '{end}'") == "t")
    for kind in BAD:
        (servers.folder / f"{kind}-repository" / "kind").write_text(kind, encoding="ascii")
    servers.kill("db1")
    time.sleep(3)  # they look for WAL elsewhere, again and again
    seconds = {kind: servers.promote(kind) for kind in ("healthy", *BAD)}
    print("measured: promoted after " + ", ".join(f"{value:.2f} s ({kind} repository)" for kind, value in seconds.items()))
    for kind in ("healthy", *BAD):
        assert servers.ask(kind, "SELECT count(*) FROM acknowledged") == "1000"
        # The fastest of the bad ones keeps a server waiting for ten seconds, each time.
        assert seconds[kind] - seconds["healthy"] <= 6, seconds


def test_wal_that_only_the_repository_has_is_replayed_and_a_promotion_takes_it_along(servers: Servers) -> None:
    """A standby comes back after the primary has removed what it lacks; another one is promoted with files still to be fetched."""
    servers.copy("late", "alone")
    for number in range(4):
        servers.ask("db1", f"INSERT INTO acknowledged SELECT generate_series({number * 1000 + 1}, {number * 1000 + 1000})")
        servers.ask("db1", "SELECT pg_switch_wal()")
        servers.ask("db1", "CHECKPOINT")
    wanted = servers.ask("db1", "SELECT pg_walfile_name(pg_current_wal_lsn())")
    until(lambda: servers.ask("db1", "SELECT last_archived_wal FROM pg_stat_archiver") >= f"{int(wanted, 16) - 1:024X}")
    first = sorted(path.name for path in (servers.folder / "archive").iterdir() if "." not in path.name)[2]
    assert not (servers.folder / "db1" / "pg_wal" / first).exists()
    servers.start("late", "db1")
    until(lambda: servers.ask("late", "SELECT count(*) FROM acknowledged") == "4000")
    until(lambda: servers.ask("late", "SELECT status FROM pg_stat_wal_receiver") == "streaming")
    servers.kill("db1")
    # All files together take longer than a promotion would wait for nothing.
    servers.start("alone", "db1", "lame")
    servers.promote("alone")
    assert servers.ask("alone", "SELECT count(*) FROM acknowledged") == "4000"


def test_the_next_timeline_is_a_new_one_where_the_repository_says_so(servers: Servers) -> None:
    """Another member was promoted, archived that, and died. Nobody but the repository knows; without it the number is used again."""
    servers.copy("healthy", "silent")
    for kind in ("healthy", "silent"):
        servers.start(kind, "db1", kind)
        until(lambda kind=kind: servers.ask(kind, "SELECT status FROM pg_stat_wal_receiver") == "streaming")
    servers.kill("db1")
    (servers.folder / "archive" / "00000002.history").write_text("1\t0/1000000\tno recovery target specified\n", encoding="ascii")
    for kind, timeline in (("healthy", 3), ("silent", 2)):
        servers.promote(kind)
        assert servers.timeline(kind) == timeline
