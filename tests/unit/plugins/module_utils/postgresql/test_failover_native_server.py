# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A change of leaders without Patroni on real servers: a primary and its standbys on ports of the loopback interface, for each
PostgreSQL whose programs this machine has.

UPTIER_POSTGRESQL names further directories of programs, with colons between them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import failover_native_apply
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Busy, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover_apply import Operation
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover_native_apply import NativeDriver
from ansible_collections.uptier.platform.plugins.modules import pg_failover

PROGRAMS = [
    *(Path(entry) for entry in os.environ.get("UPTIER_POSTGRESQL", "").split(":") if entry),
    *Path("/usr/lib/postgresql").glob("*/bin"),
]
USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
AS_USER = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
PASSWORD = "it's a \\ secret"
OPTIONS = "listen_addresses='127.0.0.1'\nfsync=off\nmax_connections=30\nshared_buffers=16MB\nwal_keep_size=64MB\nwal_retrieve_retry_interval=500\n"
GIVEN: dict[str, Any] = {
    "state": "switchover", "leader": "db1", "candidate": None, "scope": None, "max_lag_bytes": None, "allow_data_loss": False,
    "ca": None, "cert": None, "key": None, "timeout": 30, "rejoin_timeout": 5, "at": None, "probe": None, "drained": None, "fencing": None,
}  # fmt: skip


@dataclass
class Pair:
    """Servers that a test starts, stops and kills."""

    programs: Path
    folder: Path
    ports: dict[str, int]
    started: set[str] = field(default_factory=set)

    def program(self, name: str, *words: str) -> str:
        done = subprocess.run(
            [*AS_USER, self.programs / name, *words],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            timeout=60,
        )
        return done.stdout

    def configure(self, name: str, follows: str | None) -> None:
        data = self.folder / name
        with open(data / "postgresql.conf", "a", encoding="utf-8") as stream:
            stream.write(f"port={self.ports[name]}\nunix_socket_directories='{self.folder}'\n{OPTIONS}")
            if follows:
                stream.write(f"primary_conninfo='host={self.folder} port={self.ports[follows]} user={USER} application_name={name}'\n")
        if follows:
            (data / "standby.signal").touch()
            shutil.chown(data / "standby.signal", USER)

    def start(self, name: str) -> None:
        log = str(self.folder / f"{name}.log")
        subprocess.run(
            [*AS_USER, self.programs / "pg_ctl", "-D", self.folder / name, "-w", "-l", log, "start"],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )
        self.started.add(name)

    def stop(self, name: str, mode: str = "fast") -> None:
        self.started.discard(name)
        self.program("pg_ctl", "-D", str(self.folder / name), "-w", "-m", mode, "stop")

    def kill(self, name: str) -> None:
        self.started.discard(name)
        os.kill(int((self.folder / name / "postmaster.pid").read_text(encoding="ascii").split("\n")[0]), signal.SIGKILL)
        until(lambda: not answers(self.ports[name]))

    def stopping(self, name: str, mode: str = "fast") -> str:
        """A shell command that stops a server, and succeeds where it is stopped already."""
        command = " ".join([*AS_USER, f"{self.programs}/pg_ctl -D {self.folder}/{name}"])
        return f"{command} status || exit 0; {command} -w -m {mode} stop"

    def ask(self, name: str, sql: str, user: str = USER) -> str:
        command = [
            self.programs / "psql",
            "-X",
            "-A",
            "-t",
            "-q",
            "-h",
            self.folder,
            "-p",
            str(self.ports[name]),
            "-U",
            user,
            "-d",
            "postgres",
            "-c",
            sql,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    def recovering(self, name: str) -> bool:
        return self.ask(name, "SELECT pg_is_in_recovery()") == "t"

    def streams(self, name: str) -> bool:
        return self.ask(name, "SELECT status FROM pg_stat_wal_receiver") == "streaming"

    def given(self, **changes: Any) -> dict[str, Any]:
        members = [{"name": name, "host": "127.0.0.1", "port": port} for name, port in self.ports.items()]
        native = {"user": "failover", "password": PASSWORD, "database": "postgres", "psql": None}
        return {**GIVEN, "members": members, "native": native, **changes}

    def run(self, check: bool = False, **changes: Any) -> dict[str, Any]:
        """What the module does, without what Ansible does around it."""
        given = self.given(**changes)
        operation = Operation(given, check, NativeDriver(given))
        try:
            if not check:
                operation.lock()
            return operation.run()
        finally:
            operation.close()

    def refusal(self, check: bool = False, **changes: Any) -> tuple[str, str]:
        with pytest.raises(Refusal) as caught:
            self.run(check, **changes)
        return caught.value.reason, str(caught.value)

    def fence(self, name: str = "db1", mode: str = "fast") -> dict[str, Any]:
        return fencing("sh", "-c", self.stopping(name, mode))


def fencing(*command: str, timeout: int = 30, fenced: bool = False) -> dict[str, Any]:
    return {"command": list(command), "timeout": timeout, "fenced": fenced}


FENCED = fencing(fenced=True)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def until(check: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for dummy in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


@pytest.fixture(scope="session", params=PROGRAMS or [None], ids=lambda path: path.parent.name if path else "none")
def template(request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    """The data of a primary and of a standby, both stopped: what each test begins with."""
    if request.param is None or not shutil.which("runuser"):
        pytest.skip("not verified here: no PostgreSQL (Debian package postgresql); scenario role_postgresql promotes with Patroni")
    with tempfile.TemporaryDirectory(prefix="uptier-pg-") as name:
        folder = Path(name)
        shutil.chown(folder, USER)
        pair = Pair(request.param, folder, dict(zip(("db1", "db2"), free_ports(2), strict=True)))
        pair.program(
            "initdb",
            "-D",
            str(folder / "db1"),
            "-U",
            USER,
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        )
        pair.configure("db1", None)
        pair.start("db1")
        try:
            quoted = PASSWORD.replace("'", "''")
            rights = "IN ROLE pg_monitor, pg_checkpoint" if int(pair.ask("db1", "SHOW server_version_num")) >= 150000 else "SUPERUSER"
            pair.ask("db1", f"CREATE ROLE failover LOGIN PASSWORD '{quoted}' {rights}")
            pair.ask("db1", "GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO failover")
            pair.ask("db1", "CREATE TABLE acknowledged (a int PRIMARY KEY)")
            pair.program("pg_basebackup", "-h", name, "-p", str(pair.ports["db1"]), "-U", USER, "-D", str(folder / "db2"), "-c", "fast")
        finally:
            pair.stop("db1")
        yield request.param, folder


@pytest.fixture
def servers(template: tuple[Path, Path]) -> Iterator[Callable[..., Pair]]:
    """Start a primary db1 and the standbys that are named."""
    made: list[Pair] = []
    with tempfile.TemporaryDirectory(prefix="uptier-pg-") as name:
        folder = Path(name)
        shutil.chown(folder, USER)

        def make(*standbys: str) -> Pair:
            names = ("db1", *standbys)
            pair = Pair(template[0], folder, dict(zip(names, free_ports(len(names)), strict=True)))
            made.append(pair)
            for member in names:
                source = template[1] / ("db1" if member == "db1" else "db2")
                subprocess.run(["cp", "-a", source, folder / member], check=True)
                pair.configure(member, None if member == "db1" else "db1")
                pair.start(member)
            for member in standbys:
                until(lambda member=member: pair.streams(member))
            return pair

        yield make
        for pair in made:
            for member in list(pair.ports):
                if (folder / member / "postmaster.pid").exists():
                    subprocess.run(
                        [*AS_USER, pair.programs / "pg_ctl", "-D", folder / member, "-w", "-m", "immediate", "stop"],
                        check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
                    )  # fmt: skip


@pytest.fixture
def pair(servers: Callable[..., Pair]) -> Pair:
    return servers("db2")


class Writer(threading.Thread):
    """A client that inserts one row after the other through whichever server takes writes, and keeps what was acknowledged."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(daemon=True)
        hosts, ports = ",".join([str(pair.folder)] * len(pair.ports)), ",".join(str(port) for port in pair.ports.values())
        conninfo = f"host={hosts} port={ports} user={USER} dbname=postgres target_session_attrs=read-write connect_timeout=2"
        self.command = [str(pair.programs / "psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo]
        self.done: list[int] = []
        self.ended = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            with subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            ) as client:
                while not self.ended.is_set():
                    number += 1
                    try:
                        client.stdin.write(f"INSERT INTO acknowledged VALUES ({number}) RETURNING a;\n".encode())
                        said = client.stdout.readline().strip()
                    except OSError:
                        break
                    if said != str(number).encode():
                        break
                    self.done.append(number)
                with contextlib.suppress(OSError):
                    client.stdin.close()
            self.ended.wait(
                0.1
            )  # nobody takes writes: starting one client after the other would keep a processor from those who change that

    def __enter__(self) -> Writer:
        self.start()
        until(lambda: len(self.done) > 50)
        return self

    def __exit__(self, *dummy: object) -> None:
        self.ended.set()
        self.join(20)


def lost(pair: Pair, name: str, writer: Writer) -> set[int]:
    return set(writer.done) - {int(line) for line in pair.ask(name, "SELECT a FROM acknowledged").split()}


# Switchover ---------------------------------------------------------------------------------------------------------------


def test_a_switchover_loses_nothing_and_the_old_primary_follows(pair: Pair) -> None:
    with Writer(pair) as writer:
        result = pair.run(fencing=pair.fence())
        moved = len(writer.done)
        until(lambda: len(writer.done) > moved + 20)
    assert (result["changed"], result["old_leader"], result["leader"], result["timeline"]) == (True, "db1", "db2", 2)
    assert result["data_loss_bytes"] == 0
    assert lost(pair, "db2", writer) == set()
    assert 0 < result["outage_seconds"] < 20
    assert not answers(pair.ports["db1"])
    assert result["not_back"] == [
        "db1 is fenced (Connection refused) and must not start as a primary; it wrote nothing that the others have not, so standby.signal "
        "and primary_conninfo make it a standby"
    ]
    again = pair.run(fencing=fencing("false"))
    assert (again["changed"], again["message"].split(";")[0]) == (False, "db1 does not lead, db2 does.")

    # What was promised of the old primary is true.
    pair.configure("db1", "db2")
    pair.start("db1")
    until(lambda: pair.streams("db1"))
    assert pair.run(fencing=fencing("false"))["not_back"] == []
    assert pair.run(leader="db2", fencing=pair.fence("db2"))["leader"] == "db1"
    assert lost(pair, "db1", writer) == set()


def test_check_mode_has_the_same_plan_and_changes_nothing(pair: Pair) -> None:
    foreseen = pair.run(check=True, fencing=fencing("false"))
    assert (pair.recovering("db1"), pair.recovering("db2")) == (False, True)
    done = pair.run(fencing=pair.fence())
    same = ("changed", "old_leader", "leader", "candidates", "data_loss_bytes", "steps", "diff")
    for key in same:
        if key == "candidates":  # positions move
            assert [entry["name"] for entry in done[key]] == [entry["name"] for entry in foreseen[key]]
        else:
            assert done[key] == foreseen[key]


def test_a_fencing_command_that_fails_promotes_nothing(pair: Pair) -> None:
    reason, message = pair.refusal(fencing=fencing("sh", "-c", "echo no route to the management board; exit 7"))
    assert reason == "fencing_failed"
    assert (
        "ended with 7: no route to the management board. So db1 may take writes, and nothing was promoted. Seen now: db1: primary"
        in message
    )
    assert pair.refusal(fencing=fencing("/nowhere/fence"))[0] == "fencing_failed"
    assert (pair.recovering("db1"), pair.recovering("db2")) == (False, True)


def test_a_fencing_command_that_hangs_is_ended_and_promotes_nothing(pair: Pair) -> None:
    reason, message = pair.refusal(fencing=fencing("sh", "-c", "sleep 60 & sleep 60", timeout=1))
    assert reason == "fencing_failed"
    assert "did not end within 1 s" in message
    assert pair.recovering("db2")


def test_a_fencing_command_that_lies_promotes_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover_native_apply, "FALLS_SILENT_SECONDS", 2.0)
    reason, message = pair.refusal(fencing=fencing("true"))
    assert reason == "not_fenced"
    assert message.startswith("true ended with 0, but db1 takes writes (timeline 1). Nothing was promoted: two servers would take writes.")
    assert pair.recovering("db2")


def test_a_primary_that_comes_back_promotes_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor starts it again, half a second after it was stopped."""
    monkeypatch.setattr(failover_native_apply, "FALLS_SILENT_SECONDS", 2.0)
    command = " ".join([*AS_USER, f"{pair.programs}/pg_ctl -D {pair.folder}/db1 -l /dev/null"])
    reason, message = pair.refusal(fencing=fencing("sh", "-c", f"{command} -w stop; (sleep 0.5; {command} start) >/dev/null 2>&1 &"))
    assert reason == "not_fenced"
    assert pair.recovering("db2")


def test_a_stop_that_is_not_clean_promotes_nothing(pair: Pair) -> None:
    with Writer(pair):
        reason, message = pair.refusal(fencing=pair.fence(mode="immediate"))
    assert reason == "data_loss"
    assert "Nothing was promoted. Start db1 again, it has everything" in message
    assert pair.recovering("db2")
    # The advice helps.
    pair.start("db1")
    until(lambda: pair.streams("db2"))
    assert pair.run(fencing=pair.fence())["data_loss_bytes"] == 0


def test_a_restart_after_a_clean_stop_is_seen(pair: Pair) -> None:
    """The standby's log went on behind the record of the clean stop."""
    pair.stop("db1")
    pair.start("db1")
    until(lambda: pair.streams("db2"))
    pair.ask("db1", "SELECT pg_logical_emit_message(true, '', '')")  # about the shortest that a transaction writes
    until(lambda: pair.ask("db2", "SELECT pg_last_wal_replay_lsn()") == pair.ask("db1", "SELECT pg_current_wal_lsn()"))
    pair.kill("db1")
    assert pair.refusal(fencing=FENCED)[0] == "no_leader"


def test_killed_after_the_fence_and_before_the_promotion(pair: Pair) -> None:
    with Writer(pair) as writer:
        kill = fencing("sh", "-c", f"({pair.stopping('db1')}) >/dev/null; kill -9 $PPID")
        first = multiprocessing.get_context("fork").Process(target=pair.run, kwargs={"fencing": kill})
        first.start()
        first.join(60)
        assert first.exitcode == -signal.SIGKILL
        assert not answers(pair.ports["db1"])
        assert pair.recovering("db2")
        assert pair.run(check=True, fencing=pair.fence())["leader"] == "db2"
        assert pair.recovering("db2")
        result = pair.run(fencing=pair.fence())
    assert (result["changed"], result["leader"], result["data_loss_bytes"]) == (True, "db2", 0)
    assert lost(pair, "db2", writer) == set()
    assert not pair.run(fencing=pair.fence())["changed"]


def test_two_runs_at_once_exclude_each_other(pair: Pair) -> None:
    found: list[Any] = []
    slow = fencing("sh", "-c", f"touch {pair.folder}/begun; sleep 2; {pair.stopping('db1')}")
    first = threading.Thread(target=lambda: found.append(pair.run(fencing=slow)))
    first.start()
    until((pair.folder / "begun").exists)
    with pytest.raises(Busy, match=rf"^switchover by process {os.getpid()} on .*, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC$"):
        pair.run(fencing=pair.fence())
    first.join()
    assert found[0]["leader"] == "db2"
    assert not pair.run(fencing=pair.fence())["changed"]


def test_paused_replay_and_missing_rights_are_seen_before_anything_is_stopped(pair: Pair) -> None:
    pair.ask("db2", "SELECT pg_wal_replay_pause()")
    reason, message = pair.refusal(fencing=pair.fence())
    assert reason == "no_candidate"
    assert "db2 has its replay paused, and whoever paused it may need that. If it may lead: SELECT pg_wal_replay_resume() on it" in message
    pair.ask("db1", "INSERT INTO acknowledged SELECT generate_series(1, 1000)")
    pair.ask("db2", "SELECT pg_wal_replay_resume()")
    until(lambda: pair.run(check=True, fencing=pair.fence())["leader"] == "db2")
    pair.ask("db1", "ALTER ROLE failover NOSUPERUSER")
    pair.ask("db1", "REVOKE EXECUTE ON FUNCTION pg_promote(boolean, integer) FROM failover")
    until(lambda: "EXECUTE on pg_promote" in str(refused(pair)))
    assert answers(pair.ports["db1"])


def refused(pair: Pair) -> str:
    try:
        pair.run(check=True, fencing=pair.fence())
    except Refusal as refusal:
        return str(refusal)
    return ""


# Failover -----------------------------------------------------------------------------------------------------------------


def test_a_failover_wants_a_fence_and_the_loss_accepted(pair: Pair) -> None:
    assert pair.refusal(state="failover", fencing=FENCED, allow_data_loss=True)[0] == "leader_healthy"
    with Writer(pair) as writer:
        pair.kill("db1")
        writer.ended.set()
    # A run without check mode waits for that by itself; in check mode the plan is to wait.
    until(lambda: not pair.streams("db2"))
    for check in (True, False):
        assert pair.refusal(check, state="failover", allow_data_loss=True)[0] == "not_fenced"
        reason, message = pair.refusal(check, state="failover", fencing=FENCED)
        assert reason == "data_loss"
        assert "What db1 acknowledged last is not known: db2 has its log up to 0/" in message
        assert pair.refusal(check, state="switchover", fencing=pair.fence())[0] == "no_leader"
    assert pair.recovering("db2")
    result = pair.run(state="failover", fencing=FENCED, allow_data_loss=True)
    assert (result["changed"], result["leader"], result["timeline"], result["data_loss_bytes"]) == (True, "db2", 2, None)
    assert "run pg_rewind against the new primary or rebuild it" in result["not_back"][0]
    again = pair.run(state="failover", fencing=FENCED, allow_data_loss=True)
    assert (again["changed"], again["leader"], again["outage_seconds"] is not None) == (False, "db2", True)

    # The old primary comes back as one: both are named, and nothing is done.
    pair.start("db1")
    reason, message = pair.refusal(state="failover", fencing=FENCED)
    assert reason == "two_leaders"
    assert message.startswith("db1 (timeline 1, at 0/")


def test_a_failover_runs_the_command_first(pair: Pair) -> None:
    pair.kill("db1")
    failing = fencing("sh", "-c", "echo the board does not answer; exit 1")
    reason, message = pair.refusal(state="failover", fencing=failing, allow_data_loss=True)
    assert (reason, pair.recovering("db2")) == ("fencing_failed", True)
    marked = fencing("touch", str(pair.folder / "fenced"))
    assert pair.run(state="failover", fencing=marked, allow_data_loss=True)["leader"] == "db2"
    assert (pair.folder / "fenced").exists()


def test_a_failover_after_a_clean_stop_names_the_way_without_loss(pair: Pair) -> None:
    pair.stop("db1")
    reason, message = pair.refusal(state="failover", fencing=FENCED)
    assert reason == "data_loss"
    assert "where it was stopped cleanly. If you know that it was not started again after that, use state: switchover" in message
    assert pair.run(state="switchover", fencing=FENCED)["data_loss_bytes"] == 0


def test_a_primary_that_does_not_answer_us_but_its_standby_is_alive(pair: Pair) -> None:
    """This host cannot reach it, the standby can."""
    given = pair.given(state="failover", fencing=FENCED, allow_data_loss=True, timeout=2)
    given["members"][0]["port"] = free_ports(1)[0]
    with Writer(pair), pytest.raises(Refusal, match="db2 hears nothing from db1 for 10 s. db1 may well take writes") as caught:
        Operation(given, False, NativeDriver(given)).run()
    assert (caught.value.reason, pair.recovering("db2")) == ("leader_unsure", True)


def test_a_primary_that_turns_us_away_is_alive(pair: Pair) -> None:
    hba = pair.folder / "db1" / "pg_hba.conf"
    hba.write_text("local all all trust\n", encoding="ascii")
    pair.ask("db1", "SELECT pg_reload_conf()")
    until(lambda: NativeDriver(pair.given()).clients["db1"].ask("SELECT 1")[1])
    reason, message = pair.refusal(state="failover", fencing=FENCED, allow_data_loss=True)
    assert reason == "leader_unsure"
    assert "db1 runs but cannot be inspected: FATAL:  no pg_hba.conf entry for host" in message
    assert pair.recovering("db2")


def test_the_standby_that_received_most_leads_and_the_other_is_reported(servers: Callable[..., Pair]) -> None:
    pair = servers("db2", "db3")
    pair.stop("db2")
    pair.ask("db1", "INSERT INTO acknowledged SELECT generate_series(1, 1000)")
    until(lambda: pair.ask("db3", "SELECT count(*) FROM acknowledged") == "1000")
    pair.kill("db1")
    pair.start("db2")
    result = pair.run(state="failover", fencing=FENCED, allow_data_loss=True, rejoin_timeout=1)
    assert result["leader"] == "db3"
    assert [entry["name"] for entry in result["candidates"]][:2] == ["db3", "db2"]
    assert "db2 does not stream from db3: make its primary_conninfo point to db3 and reload it" in result["not_back"][1]


def test_the_module(pair: Pair, run_module: Callable[..., dict[str, Any]]) -> None:
    """Its options reach the operation, and refusals are results."""

    def call(**changes: Any) -> dict[str, Any]:
        given = {key: value for key, value in pair.given(**changes).items() if value is not None}
        given["native"] = {"user": "failover", "password": PASSWORD}
        return run_module(pg_failover.main, given)

    assert (call()["reason"], call()["failed"]) == ("not_fenced", True)
    result = call(fencing={"command": pair.fence()["command"]})
    assert (result["leader"], result["data_loss_bytes"], result["changed"]) == ("db2", 0, True)
    assert PASSWORD not in str(result)
