# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs on a test host by entering its namespaces, at a tenth of what `docker exec` costs.

`docker exec` starts a client, asks the engine, and that starts two programs more before the wanted one runs: 33 ms of
processor for `true`, against 3 ms here (docs/decisions/0007). What is run finds what it would find there: the
namespaces, the control groups (so that it counts as the host's), the capabilities, the environment, a session of its
own (it goes on when its caller is killed), no open files but the three.

It needs root on the machine on which the engine runs; `possible()` says so. Everything else in the tests goes through
`Reach`, which takes the engine where this cannot be had.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

# Where a host's processes are found is asked once and kept here: every module run is a process of its own.
KNOWN = Path(__file__).resolve().parents[2] / ".cache" / "entered"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FROZEN = ("FROZEN", "1")
LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")
KILLED = 128
# The environment variable that names a file for `note_seconds`.
SECONDS_NOTED = "UPTIER_ENTERED_SECONDS"


class Closed(Exception):
    """The host cannot be entered: it is not there, does not run or is paused. The message is the engine's."""


@dataclass(frozen=True)
class Door:
    """How to enter one host; true until its first process ends.

    `groups` has a list for each hierarchy of control groups: the files to try, the first that takes the process is it.
    """

    pid: int
    started: str
    environment: dict[str, str]
    groups: list[list[str]]
    freezer: str
    dropped: str

    def stands(self) -> bool:
        """Tell whether the host's first process is still the one that was seen."""
        return started(self.pid) == self.started

    def paused(self) -> bool:
        """Tell whether the host's processes are frozen; whoever entered would be too."""
        try:
            return Path(self.freezer).read_text(encoding="ascii").strip() in FROZEN
        except OSError:
            return False

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command that joins the control groups, gives up capabilities, enters the namespaces and becomes `words`."""
        join = ""
        for paths in self.groups:
            tried = " || ".join(f"echo 0 >{shlex.quote(path)}" for path in paths)
            join += f"{{ {tried}; }} 2>/dev/null || exit 125\n"
        drop = f" --bounding-set={self.dropped}" if self.dropped else ""
        enter = f"exec setpriv --groups=0{drop} nsenter -t {self.pid} -m -u -i -n -p -C --"
        return ["/bin/sh", "-c", f'umask 022\n{join}{enter} "$@"', "enter", *words]


def possible() -> bool:
    """Tell whether this user on this machine can enter hosts: root, Linux, and the engine is here."""
    local = os.environ.get("DOCKER_HOST", "unix://").startswith("unix://")
    return sys.platform == "linux" and os.geteuid() == 0 and local and all(shutil.which(tool) for tool in ("nsenter", "setpriv"))


def started(pid: int) -> str:
    """Return when a process started, in ticks since the machine did; nothing when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def hierarchies(mountinfo: str) -> dict[str, str]:
    """Return by controller where its control groups are mounted; the second version has the key ''."""
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, dummy, after = line.partition(" - ")
        kind, dummy_source, options = after.split(" ", 2)
        root, point = before.split()[3:5]
        if root != "/":  # a part of the tree, as inside a host of a nested engine
            continue
        if kind == "cgroup2":
            found.setdefault("", point)
        elif kind == "cgroup":
            found.update(dict.fromkeys(options.split(","), point))
    return found


def control_groups(of_process: str, mounted: Mapping[str, str]) -> tuple[list[list[str]], str]:
    """Return the files that take a process into a host's control groups, and the one that says whether it is frozen.

    systemd moves itself into init.scope below the host's own group. Where that has controllers it takes no process
    any more, and the engine puts what it runs beside systemd; so do we.
    """
    groups, freezer = [], ""
    for line in of_process.splitlines():
        dummy, controllers, path = line.split(":", 2)
        point = mounted.get(controllers.split(",")[0])
        if point is None:
            continue
        top = path.removesuffix("/init.scope")
        groups.append([f"{point}{tried}/cgroup.procs" for tried in dict.fromkeys((top, path))])
        if controllers == "freezer":
            freezer = f"{point}{top}/freezer.state"
        elif not controllers and not freezer:
            freezer = f"{point}{top}/cgroup.freeze"
    return groups, freezer


def dropped(status: str, last: int) -> str:
    """Return what setpriv has to take away, so that a program can no more than the host's first process may."""
    bound = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:"))
    return ",".join(f"-cap_{number}" for number in range(last + 1) if not bound >> number & 1)


def look(container: str) -> Door:
    """Ask the engine for a host's first process, and the kernel for the rest. Raises Closed."""
    seen = subprocess.run(["docker", "inspect", "--type=container", container], capture_output=True, text=True, check=False)
    if seen.returncode != 0:
        raise Closed(seen.stderr.strip())
    known = json.loads(seen.stdout)[0]
    if not known["State"]["Running"]:
        raise Closed(f"Error response from daemon: Container {container} is not running")
    pid, process = int(known["State"]["Pid"]), Path("/proc") / str(known["State"]["Pid"])
    try:
        of_process = (process / "cgroup").read_text(encoding="ascii")
        status = (process / "status").read_text(encoding="ascii", errors="replace")
        begun = started(pid)
    except OSError:
        raise Closed(f"Error response from daemon: Container {container} is not running") from None
    if known["Id"] not in of_process:
        raise Closed(f"process {pid} is not the first of {container}: the engine does not run on this machine, or hides its processes")
    groups, freezer = control_groups(of_process, hierarchies(Path("/proc/self/mountinfo").read_text(encoding="utf-8")))
    environment = {
        "PATH": PATH,
        "HOSTNAME": known["Config"]["Hostname"],
        "HOME": "/root",
        **dict(pair.split("=", 1) for pair in known["Config"]["Env"] or [] if "=" in pair),
    }
    return Door(pid, begun, environment, groups, freezer, dropped(status, int(LAST_CAPABILITY.read_text(encoding="ascii"))))


def door(container: str) -> Door:
    """Return the way into a host, the kept one while its first process lives. Raises Closed."""
    record = KNOWN / container
    try:
        found = Door(**json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        found = None
    if found is None or not found.stands():
        found = look(container)
        KNOWN.mkdir(parents=True, exist_ok=True)
        fresh = record.with_name(f"{container}.{os.getpid()}")
        fresh.write_text(json.dumps(asdict(found)), encoding="utf-8")
        fresh.replace(record)
    if found.paused():
        raise Closed(f"Error response from daemon: Container {container} is paused, unpause the container before exec")
    return found


def forget(names: str) -> None:
    """Forget the hosts whose container's name begins like that; the engine is asked again for those that are still there."""
    for record in KNOWN.glob(f"{names}*"):
        record.unlink(missing_ok=True)


def start(
    container: str,
    words: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: IO[Any] | int = subprocess.DEVNULL,
    stdout: IO[Any] | int = subprocess.PIPE,
    stderr: IO[Any] | int = subprocess.PIPE,
    text: bool = False,
) -> subprocess.Popen[Any]:
    """Start a program on a host, as root. Raises Closed."""
    opened = door(container)
    return subprocess.Popen(
        opened.command(words),
        env={**opened.environment, **(environment or {})},
        cwd="/",
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=text,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[bytes], given: bytes | None = None, timeout: float | None = None) -> tuple[int, bytes, bytes]:
    """Feed a program and wait for it; return its status as `docker exec` gives it, its output and its errors.

    What the program left in the background may keep the pipes open: nobody waits for that.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    end = os.pidfd_open(process.pid)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = converse(end, process.stdin, [process.stdout, process.stderr], given or b"", deadline)
    except TimeoutError as late:
        process.kill()
        process.wait()
        raise subprocess.TimeoutExpired(process.args, timeout or 0, *late.args) from None
    finally:
        os.close(end)
    before = os.times()
    status = process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    note_seconds(os.times(), before)
    return status if status >= 0 else KILLED - status, out, err


def converse(
    end: int, feed: IO[bytes] | None, outputs: Sequence[IO[bytes]], given: bytes, deadline: float | None = None
) -> tuple[bytes, bytes]:
    """Feed a program and read its output and its errors until `end` is readable, or both are closed; the pipes are closed then.

    Raises TimeoutError with what was read until the deadline.
    """
    pipes = [*([feed] if feed else []), *outputs]
    read = {pipe.fileno(): bytearray() for pipe in outputs}
    out, err = read.values()
    into = feed.fileno() if feed else -1
    rest = memoryview(given)
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(end, selectors.EVENT_READ)
            for pipe in pipes:
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_WRITE if pipe is feed else selectors.EVENT_READ)
            ready: set[int] = set()
            while read and end not in ready:
                ready = {key.fd for key, dummy in selector.select(None if deadline is None else max(0.0, deadline - time.monotonic()))}
                if not ready:
                    raise TimeoutError(bytes(out), bytes(err))
                if into in ready:
                    rest = written(into, rest)
                    if not rest:
                        selector.unregister(into)
                        feed.close()  # type: ignore[union-attr]
                for number in [number for number in read if number in ready or end in ready]:
                    if drained(number, read[number]):
                        selector.unregister(number)
                        del read[number]
        finally:
            for pipe in pipes:
                pipe.close()
    return bytes(out), bytes(err)


def note_seconds(now: os.times_result, before: os.times_result) -> None:
    """Note what an ended program has used of the processors, where somebody wants to know: it was our child and the host's process."""
    path = os.environ.get(SECONDS_NOTED)
    if path:
        used = now.children_user + now.children_system - before.children_user - before.children_system
        with contextlib.suppress(OSError), open(path, "a", encoding="ascii") as notes:
            notes.write(f"{used:.2f}\n")


def written(number: int, rest: memoryview) -> memoryview:
    """Write what the other side takes now; return what is left, nothing when it does not listen."""
    try:
        return rest[os.write(number, rest) :]
    except BrokenPipeError:
        return rest[:0]


def drained(number: int, into: bytearray) -> bool:
    """Read what there is; tell whether the other side has closed."""
    while True:
        try:
            piece = os.read(number, 1 << 18)
        except BlockingIOError:
            return False
        if not piece:
            return True
        into += piece


@dataclass(frozen=True)
class Reach:
    """Programs on the hosts of a lab: by entering them, or through the engine where Ansible does so too."""

    entering: bool

    @classmethod
    def of(cls, connection: object) -> Reach:
        """Take the way of an inventory's ansible_connection."""
        return cls(connection == "enter")

    def start(
        self,
        container: str,
        words: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdout: IO[Any] | int = subprocess.PIPE,
        stderr: IO[Any] | int = subprocess.PIPE,
        feed: bool = False,
        text: bool = True,
    ) -> subprocess.Popen[Any]:
        """Start a program, with a pipe to its input where `feed` says so. Raises Closed when it enters."""
        stdin = subprocess.PIPE if feed else subprocess.DEVNULL
        if self.entering:
            return start(container, words, environment=environment, stdin=stdin, stdout=stdout, stderr=stderr, text=text)
        names = [f"--env={name}" for name in environment or {}]  # the values stay out of the process list
        command = ["docker", "exec", *(["-i"] if feed else []), *names, container, *words]
        return subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdin=stdin, stdout=stdout, stderr=stderr, text=text)

    def run(
        self,
        container: str,
        words: Sequence[str],
        *,
        given: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program; a host that cannot be entered gives status 1 and the engine's words."""
        try:
            process = self.start(container, words, environment=environment, feed=given is not None, text=False)
        except Closed as closed:
            return subprocess.CompletedProcess(list(words), 1, b"", f"{closed}\n".encode())
        return subprocess.CompletedProcess(list(words), *finish(process, given, timeout))
