# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Notice that PostgreSQL's server process is frozen, and end it, so that Patroni replaces it.

A stopped process keeps its sockets: whoever is connected goes on, Patroni among them, and who connects anew waits for ever. This
looks at the process once a second (two small files in /proc), and makes a new login on the local socket every ten seconds, and at
once when the process is stopped. A server that is stopped, and whose login has no answer, for `--patience` seconds is killed with all
that it started. What it does then is what Patroni does with a crashed server: another member leads, or it is started again.

Every answer is an answer, also that there are too many clients, or that the server starts up. A busy host makes answers late, but
stops no process: that is reported (--metrics) and nothing is done. Nor is anything done while failover is paused, or where Patroni
does not answer, because nobody would start the server again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import select
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LOOK_SECONDS = 1.0
LOGIN_SECONDS = 10.0  # between two logins while all is well
WRITE_SECONDS = 10.0  # between two reports while nothing changes
PATRONI_SECONDS = 2.0  # until its Patroni has to answer
CLOSE_SECONDS = 1.0
PROC = Path("/proc")
GOODBYE = b"X" + struct.pack("!i", 4)


class Process(NamedTuple):
    """A process at one moment. Its start, in ticks since the host's, tells it from a later one with the same number."""

    pid: int
    parent: int
    name: str
    state: str
    started: int

    @property
    def stopped(self) -> bool:
        return self.state in ("T", "t")


def process(pid: int) -> Process | None:
    """Return a process, or None where there is none."""
    try:
        head, dummy, tail = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    except OSError:
        return None
    words = tail.split()
    return Process(pid, int(words[1]), head.partition("(")[2], words[0], int(words[19]))


@contextlib.contextmanager
def acting_as(user: str) -> Iterator[None]:
    """Be another user for a moment, where this is root. Raises KeyError where there is no such user."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(pwd.getpwnam(user).pw_uid)
    try:
        yield
    finally:
        os.seteuid(me)


def server(data: Path, user: str) -> Process | None:
    """Return the server of a data directory, or None where none runs, as on a member that is being rebuilt.

    The file is read as its owner: root without CAP_DAC_READ_SEARCH, as in many containers, could not. Raises PermissionError where the
    owner cannot either, because a watch that sees no server would be taken for one that sees no fault.
    """
    try:
        with acting_as(user):
            text = (data / "postmaster.pid").read_text(encoding="utf-8")
        found = process(int(text.split("\n", 1)[0]))
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError):
        return None
    return found if found and found.name == "postgres" else None


def children(parent: int) -> Iterator[Process]:
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (found := process(int(entry.name))) and found.parent == parent:
            yield found


class Login:
    """One new login, as the user whom the server knows by the kernel's word, so without a password."""

    def __init__(self, path: str, user: str) -> None:
        self.began = time.monotonic()
        self._path, self._user = path, user
        body = f"user\0{user}\0database\0postgres\0application_name\0uptier watch\0\0".encode()
        self._hello = struct.pack("!ii", len(body) + 8, 3 << 16) + body
        self._socket: socket.socket | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def _connect(self) -> bool:
        """Knock; tell whether that was all, because nobody is there to answer."""
        knock = socket.socket(socket.AF_UNIX)
        knock.setblocking(False)
        try:
            with acting_as(self._user):
                knock.connect(self._path)
                knock.sendall(self._hello)
        except BlockingIOError:  # as many wait already as may
            knock.close()
            return False
        except (OSError, KeyError):
            knock.close()
            return True
        self._socket = knock
        return False

    def answered(self, patience: float) -> bool:
        """Wait for an answer, so long at most."""
        if self._socket is None and self._connect():
            return True
        if self._socket is None:
            time.sleep(patience)
            return False
        if not select.select([self._socket], [], [], patience)[0]:
            return False
        self._take_leave(self._socket)
        return True

    @staticmethod
    def _take_leave(answered: socket.socket) -> None:
        """End as a client does that is done: one that hangs up stands in the server's log."""
        answered.settimeout(CLOSE_SECONDS)
        try:
            answered.sendall(GOODBYE)
            while answered.recv(65536):
                pass
        except OSError:
            pass  # it has hung up itself
        answered.close()

    def close(self) -> None:
        if self._socket:
            self._socket.close()


def paused(given: argparse.Namespace) -> str:
    """Return why Patroni would not replace the server; empty when it would."""
    import http.client
    import ssl
    import urllib.parse

    address = urllib.parse.urlsplit(given.patroni)
    try:
        context = ssl.create_default_context(cafile=given.ca)
        context.load_cert_chain(given.cert, given.key)
        connection = http.client.HTTPSConnection(address.hostname or "", address.port, timeout=PATRONI_SECONDS, context=context)
        try:
            connection.request("GET", "/config")  # it answers this without the server
            config = json.loads(connection.getresponse().read())
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"Patroni does not answer ({error})"
    return "failover is paused (patronictl resume ends that)" if config.get("pause") else ""


def kill(frozen: Process) -> int | None:
    """Kill a server and all that it started; return how many that were, or None where it is not stopped any more.

    Its children would go on for as long as they have something to do, and write beside the next leader.
    """
    try:
        handle = os.pidfd_open(frozen.pid)
    except OSError:
        return None
    try:
        if process(frozen.pid) != frozen:  # the handle is of whoever has the number now
            return None
        started = list(children(frozen.pid))
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
    for child in started:
        now = process(child.pid)
        if now and now.started == child.started:
            os.kill(child.pid, signal.SIGKILL)
    return len(started)


class Report:
    """What node_exporter passes on."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._possible = path is not None and path.parent.is_dir()
        self._written = 0.0
        self.login_seconds = 0.0
        self.unanswered_seconds = 0.0
        self.killed = 0

    def write(self, now: bool = False) -> None:
        if self._path is None or not self._path.parent.is_dir() or (not now and time.monotonic() - self._written < WRITE_SECONDS):
            return
        if not self._possible:
            # Its unit lets a process write where there was a directory when it began.
            raise SystemExit(f"{self._path.parent} is there now: restarting, to report in it")
        self._written = time.monotonic()
        lines = []
        for name, kind, text, value in (
            (
                "pg_login_seconds",
                "gauge",
                "How long the last new login on the local socket took until its first answer.",
                self.login_seconds,
            ),
            ("pg_login_unanswered_seconds", "gauge", "How long a new login has had no answer; 0 when it has one.", self.unanswered_seconds),
            ("pg_watch_frozen_total", "counter", "How often a frozen server was killed since the watch began.", self.killed),
            ("pg_watch_timestamp_seconds", "gauge", "When this was written.", time.time()),
        ):
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:.6g}" if value < 1e9 else f"{name} {value:.0f}"]
        try:
            handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write("\n".join(lines) + "\n")
            os.chmod(temporary, 0o644)
            os.replace(temporary, self._path)
        except OSError as error:
            say(f"{self._path} cannot be written: {error}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Watch:
    """Looks, logs in and acts; `look` is one turn of a second."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.report = Report(given.metrics)
        self.login: Login | None = None
        self.next_login = 0.0
        self.frozen: Process | None = None
        self.frozen_since = 0.0
        self.left_alone = ""

    def look(self) -> None:
        turn = time.monotonic() + LOOK_SECONDS
        seen = server(self.given.data, self.given.user)
        if seen is None or not seen.stopped:
            self.frozen, self.left_alone = None, ""
        elif seen != self.frozen:
            self.frozen, self.frozen_since = seen, time.monotonic()
        if self.login is None and (self.frozen or time.monotonic() >= self.next_login):
            self.login = Login(self.given.socket, self.given.user)
        if self.login:
            self._listen(self.login, max(0.0, turn - time.monotonic()))
        if self.frozen and self.login and min(self.login.seconds, time.monotonic() - self.frozen_since) >= self.given.patience > 0:
            self._end(self.frozen, self.login)
        self.report.write()
        time.sleep(max(0.0, turn - time.monotonic()))

    def _listen(self, login: Login, patience: float) -> None:
        late = self.report.unanswered_seconds > 0
        if login.answered(patience):
            self.report.login_seconds, self.report.unanswered_seconds = login.seconds, 0.0
            self.login, self.next_login = None, login.began + LOGIN_SECONDS
        else:
            self.report.unanswered_seconds = login.seconds
        if late or self.report.unanswered_seconds:
            self.report.write(now=True)

    def _end(self, frozen: Process, login: Login) -> None:
        seen = f"PostgreSQL's process {frozen.pid} is stopped (state {frozen.state}), and a new login has had no answer for {login.seconds:.1f} s"
        why = paused(self.given)
        if why:
            if why != self.left_alone:
                say(f"{seen}. It is left alone: {why}. `kill -CONT {frozen.pid}` lets it go on.")
            self.left_alone = why
            return
        count = kill(frozen)
        if count is None:
            return
        self.report.killed += 1
        say(f"{seen}. It was killed with the {count} processes that it had started; Patroni sees to the rest. Find out who stopped it.")
        login.close()
        self.login, self.frozen = None, None
        self.report.write(now=True)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data directory")
    parser.add_argument("--socket", required=True, help="the server's local socket")
    parser.add_argument("--user", default="postgres", help="who logs in")
    parser.add_argument("--patience", type=float, default=2.0, help="seconds until a frozen server is killed; 0 never kills")
    parser.add_argument("--patroni", required=True, help="address of this member's Patroni")
    for name in ("ca", "cert", "key"):
        parser.add_argument(f"--{name}", required=True, help="to speak to it")
    parser.add_argument("--metrics", type=Path, help="file to report in")
    return parser.parse_args(words)


def main() -> int:
    given = arguments()
    watch = Watch(given)
    while True:
        try:
            watch.look()
        except PermissionError as error:
            say(
                f"{error}: nothing is watched. {given.user} has to own {given.data}, and this has to be started as root or as {given.user}."
            )
            return 1


if __name__ == "__main__":
    sys.exit(main())
