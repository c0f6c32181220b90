# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The watch on real servers, for each PostgreSQL whose programs this machine has: one that is frozen, and all that only looks so.

Patroni is a stand-in over TLS, which answers or not; ops_failover has the real one. UPTIER_POSTGRESQL names further directories of
programs, with colons between them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = [
    *(Path(entry) for entry in os.environ.get("UPTIER_POSTGRESQL", "").split(":") if entry),
    *Path("/usr/lib/postgresql").glob("*/bin"),
]
ROLE = Path(__file__).resolve().parents[3] / "roles" / "postgresql"
USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
# Its own child, so that it is gone when it is killed: not every machine that runs tests has an init that sees to that.
AS_USER: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
OPTIONS = "listen_addresses=''\nfsync=off\nmax_connections=8\nsuperuser_reserved_connections=2\nshared_buffers=16MB\nmax_wal_senders=0\n"


@pytest.fixture(scope="module")
def program(load_program: Any) -> Any:
    return load_program("roles/postgresql/files/postgresql_watch.py")


@dataclass
class Server:
    programs: Path
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it and wait until it says something, be it that it starts up."""
        asked = [self.programs / "pg_isready", "-q", "-h", self.folder]
        deadline = time.monotonic() + 20
        self._launch()
        while subprocess.run(asked, check=False, timeout=30).returncode == 2:
            assert time.monotonic() < deadline, self.log[-2000:]
            if not self.alive:
                # Killed processes of the one before may hold its memory for a moment longer.
                assert "pre-existing shared memory block" in self.log[-2000:], self.log[-2000:]
                self._launch()
            time.sleep(0.1)

    def _launch(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([self.programs / "postgres", "-D", self.data], stdout=log, stderr=log, cwd="/", **AS_USER)

    def end(self) -> None:
        """End it as a crash does, with all that it started."""
        if self.process is None:
            return
        started = subprocess.run(["pgrep", "-P", str(self.pid)], check=False, capture_output=True, text=True, timeout=10).stdout.split()
        self.process.kill()
        self.process.wait(10)
        for child in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def psql(self, sql: str) -> subprocess.Popen[bytes]:
        command = [self.programs / "psql", "-X", "-q", "-h", self.folder, "-d", "postgres", "-c", sql]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **AS_USER)


@pytest.fixture(scope="module", params=PROGRAMS or [None], ids=lambda path: path.parent.name if path else "none")
def made(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param is None or not shutil.which("runuser"):
        pytest.skip("not verified here: no PostgreSQL (Debian package postgresql); ops_failover freezes the leader's")
    with tempfile.TemporaryDirectory(prefix="uptier-pg-") as name:
        folder = Path(name)
        shutil.chown(folder, USER)
        initdb = [request.param / "initdb", "-D", folder / "data", "-U", USER, "-A", "peer", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=60, **AS_USER)
        with open(folder / "data" / "postgresql.conf", "a", encoding="utf-8") as stream:
            stream.write(f"{OPTIONS}unix_socket_directories='{folder}'\n")
        yield Server(request.param, folder)


@pytest.fixture
def server(made: Server) -> Iterator[Server]:
    made.start()
    yield made
    made.end()


@pytest.fixture
def watch(program: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A watch whose Patroni says that it would replace the server."""
    monkeypatch.setattr(program, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(program, "LOGIN_SECONDS", 0.4)
    monkeypatch.setattr(program, "paused", lambda given: "")
    given = argparse.Namespace(
        data=server.data, socket=f"{server.folder}/.s.PGSQL.5432", user=USER, patience=1.0, metrics=server.folder / "watch.prom"
    )
    return program.Watch(given)


def turns(watch: Any, seconds: float, until: Callable[[], Any] = lambda: False) -> float:
    """Let the watch look until something is so, or for some seconds; return how long that took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds and not until():
        watch.look()
    return time.monotonic() - began


def metrics(watch: Any) -> dict[str, float]:
    watch.report.write(now=True)
    lines = [line.split() for line in watch.given.metrics.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_a_frozen_server_is_killed_with_what_it_started(server: Server, watch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    turns(watch, 0.5)
    busy = server.psql("DO $$ BEGIN LOOP END LOOP; END $$")  # never looks whether its server is still there
    time.sleep(0.5)
    os.kill(server.pid, signal.SIGSTOP)
    took = turns(watch, 60, lambda: not server.alive)
    assert 1.0 <= took < 60
    assert busy.wait(60) != 0
    assert re.search(r"is stopped \(state T\), and a new login has had no answer for [1-9]", capsys.readouterr().err)
    assert metrics(watch)["pg_watch_frozen_total"] == 1
    server.start()  # which it refuses while anybody holds the old one's memory
    turns(watch, 60, lambda: watch.report.unanswered_seconds == 0)
    assert metrics(watch)["pg_login_unanswered_seconds"] == 0
    assert metrics(watch)["pg_watch_frozen_total"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="not verified here: only root has capabilities to give up")
def test_it_sees_the_server_with_the_capabilities_of_its_unit(server: Server) -> None:
    """Nobody but the server's user may read its data directory, and the root of a container may not override that."""
    unit = (ROLE / "templates" / "watch.service.j2").read_text(encoding="utf-8")
    kept = re.search(r"^CapabilityBoundingSet=(.+)$", unit, re.MULTILINE)[1].lower().replace("cap_", "+").replace(" ", ",")
    assert "dac" not in kept, "the root of a container has no such capability"
    code = f"import pathlib, postgresql_watch as w; print(w.server(pathlib.Path('{server.data}'), '{USER}').pid)"
    command = ["setpriv", f"--bounding-set=-all,{kept}", sys.executable, "-B", "-c", code]
    done = subprocess.run(command, cwd=ROLE / "files", capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.strip() == str(server.pid), done.stderr


def test_a_directory_that_cannot_be_read_is_no_missing_server(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, **kwargs: Any) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(PermissionError):
        program.server(tmp_path, "root")


def test_what_is_left_alone_goes_on(
    program: Any, server: Server, watch: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "paused", lambda given: "failover is paused")
    os.kill(server.pid, signal.SIGSTOP)
    turns(watch, 2.5)
    said = capsys.readouterr().err
    assert said.count("It is left alone: failover is paused.") == 1
    assert metrics(watch)["pg_login_unanswered_seconds"] > 2
    os.kill(server.pid, signal.SIGCONT)
    turns(watch, 60, lambda: watch.report.unanswered_seconds == 0)
    assert server.alive
    assert metrics(watch)["pg_login_unanswered_seconds"] == metrics(watch)["pg_watch_frozen_total"] == 0


def test_nothing_is_killed_where_that_is_not_wanted(server: Server, watch: Any) -> None:
    watch.given.patience = 0
    os.kill(server.pid, signal.SIGSTOP)
    turns(watch, 2)
    assert server.alive
    assert metrics(watch)["pg_login_unanswered_seconds"] > 1


def test_a_short_stop_is_nothing(server: Server, watch: Any) -> None:
    for dummy in range(3):
        os.kill(server.pid, signal.SIGSTOP)
        turns(watch, 0.7)
        os.kill(server.pid, signal.SIGCONT)
        turns(watch, 0.5)
    assert server.alive
    assert watch.report.killed == 0


def test_too_many_clients_is_an_answer(server: Server, watch: Any) -> None:
    """Also when the superuser's own connections are used up."""
    with ExitStack() as stack:
        for dummy in range(8):
            client = server.psql("SELECT pg_sleep(600)")
            stack.callback(client.wait)
            stack.callback(client.terminate)
        turns(watch, 60, lambda: "too many clients already" in server.log)
        assert "too many clients already" in server.log
        turns(watch, 2)
        assert server.alive
        assert metrics(watch)["pg_login_unanswered_seconds"] == 0


def test_recovery_is_an_answer(server: Server, watch: Any) -> None:
    server.end()
    settings = server.data / "postgresql.auto.conf"
    settings.write_text("hot_standby = off\nrestore_command = 'false'\n", encoding="ascii")  # so it says that it starts up, for good
    (server.data / "standby.signal").touch()
    try:
        server.start()
        turns(watch, 3)
        assert "the database system is" in server.log
        assert server.alive
        assert (watch.report.killed, metrics(watch)["pg_login_unanswered_seconds"]) == (0, 0)
    finally:
        server.end()
        settings.write_text("", encoding="ascii")
        (server.data / "standby.signal").unlink()


def test_a_busy_host_stops_nothing(server: Server, watch: Any) -> None:
    """Twenty processes that take all they get."""
    burners = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for dummy in range(20)]
    try:
        turns(watch, 4)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert server.alive
    assert watch.report.killed == 0
    assert 0 < metrics(watch)["pg_login_seconds"] < 4


def test_no_server_is_nothing(server: Server, watch: Any) -> None:
    """A standby that is being rebuilt: there is no process, or the number of one that is gone, or of another program."""
    server.end()
    turns(watch, 1.5)
    other = subprocess.Popen(["sleep", "60"])
    try:
        (server.data / "postmaster.pid").write_text(f"{other.pid}\n", encoding="ascii")
        os.kill(other.pid, signal.SIGSTOP)
        turns(watch, 1.5)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    (server.data / "postmaster.pid").write_text("99999999\n", encoding="ascii")
    turns(watch, 0.5)
    assert (watch.report.killed, metrics(watch)["pg_login_unanswered_seconds"]) == (0, 0)


def test_its_logins_leave_no_trace_in_the_log(server: Server, watch: Any) -> None:
    before = server.log
    turns(watch, 2)
    # What the server says of itself may come at any time.
    own = re.compile("checkpoint|database system is ready")
    assert [line for line in server.log.removeprefix(before).splitlines() if not own.search(line)] == []
    assert 0 < metrics(watch)["pg_login_seconds"] < 2
