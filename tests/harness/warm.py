# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Python programs on a test host by a Python that has its own library loaded already.

Every module run starts a Python on its host, and half of what that costs is to import the same sixty modules of Python's own
library. Here a process on the host has done that once and becomes the program, by a fork for each (docs/decisions/0007). What
Ansible sends is read, unpacked and imported anew each time, as on a host of a user. The process comes with the first program,
leaves after a minute without one, and dies with its host. `make test-full` does without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
from pathlib import Path

from harness import enter

PYTHON = "/usr/bin/python3"
# What Ansible's connections are given where they may pipe a module in: by ansible-core up to 2.20, and since.
COMMANDS = (f"/bin/sh -c '{PYTHON} && sleep 0'", f"/bin/sh -c {PYTHON}")
SOCKET = "/run/uptier-lab-python"
STARTED = 10.0  # seconds; a busy machine takes one
SWITCHED_OFF = "UPTIER_FULL"
SERVER = r"""
import importlib, os, socket, sys
for name in '''argparse ast atexit base64 calendar collections.abc configparser contextlib copy ctypes dataclasses datetime decimal
    email.message enum errno fcntl fnmatch functools gettext glob grp hashlib hmac http.client importlib.metadata importlib.resources
    importlib.util inspect io ipaddress itertools json json.decoder linecache locale logging numbers operator pathlib pkgutil platform
    posixpath pty pwd queue random re runpy secrets select selectors shlex shutil signal ssl stat string struct subprocess syslog
    tempfile termios textwrap threading time token tokenize traceback tty types typing unicodedata urllib.parse urllib.request uuid
    warnings weakref zipfile zipimport'''.split():
    try:
        importlib.import_module(name)
    except ImportError:
        pass


def program(path, idle):
    # Return the text of the next program, in the process that is to run it.
    import contextlib, gc, json, select, time
    # A child of the host's first process, which ends it with the host; who has entered leaves as soon as somebody listens.
    listens, told = os.pipe()
    if os.fork():
        os.close(told)
        os._exit(not os.read(listens, 1))
    os.close(listens)
    os.setsid()
    os.umask(0o022)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(128)
    os.write(told, b"3")
    os.close(told)
    gc.collect()
    gc.freeze()
    children = {}  # by descriptor of the process: the connection that waits for it, and its number
    last = time.monotonic()
    while children or time.monotonic() - last < idle:
        ready = select.select([listener, *children], [], [], idle)[0]
        for end in [end for end in ready if end is not listener]:
            caller, pid = children.pop(end)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with contextlib.suppress(OSError):
                caller.sendall(json.dumps(status).encode())
            caller.close()
            os.close(end)
        if listener not in ready:
            continue
        last = time.monotonic()
        caller = listener.accept()[0]
        caller.settimeout(5)
        given, begun = [], False
        with contextlib.suppress(OSError):
            given = socket.recv_fds(caller, 1, 3)[1]
            if len(given) == 3:
                caller.sendall(b"3")
                begun = True
        if not begun:  # whoever called was killed
            for number in given:
                os.close(number)
            caller.close()
            continue
        pid = os.fork()
        if pid:
            children[os.pidfd_open(pid)] = caller, pid
            for number in given:
                os.close(number)
            continue
        # No object that stays here may own a number that the program will be given.
        for end, (other, dummy) in children.items():
            os.close(end)
            other.close()
        listener.close()
        caller.close()
        os.setsid()
        for number, target in zip(given, range(3)):
            os.dup2(number, target)
            os.close(number)
        time.tzset()
        text = bytearray()
        while piece := os.read(0, 1 << 20):
            text += piece
        return bytes(text)
    os.unlink(path)
    listener.close()
    os._exit(0)


def main(path, idle):
    import types
    module = types.ModuleType("__main__")
    vars(module).update(__builtins__=__builtins__, __annotations__={}, __file__="<stdin>", __cached__=None, __loader__=__loader__)
    text = program(path, idle)
    sys.modules["__main__"] = module
    sys.argv[:] = [""]
    return compile(text, "<stdin>", "exec", dont_inherit=True), module.__dict__


exec(*main(sys.argv[1], float(sys.argv[2])))
"""


def possible(command: str) -> bool:
    """Tell whether this is a shell line that starts a Python which reads its program, and nothing else."""
    return command in COMMANDS and not os.environ.get(SWITCHED_OFF)


def run(container: str, given: bytes, idle: float = 60) -> tuple[int, bytes, bytes] | None:
    """Run a program; return its status, its output and its errors, or None where it was not begun. Raises enter.Closed."""
    # Whoever listens may be about to end, or to be ended with the host: then another one is started.
    for dummy in range(2):
        connection = connected(container, idle)
        if connection is None:
            return None
        with connection:
            done = begin(connection, given)
        if done is not None:
            return done
    return None


def begin(connection: socket.socket, given: bytes) -> tuple[int, bytes, bytes] | None:
    """Have the process at the other end become a program; return what `run` does."""
    pipes = [os.pipe() for dummy in range(3)]
    theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
    feed, *outputs = [os.fdopen(number, mode, 0) for number, mode in ((pipes[0][1], "wb"), (pipes[1][0], "rb"), (pipes[2][0], "rb"))]
    begun = b""
    with contextlib.suppress(OSError):
        socket.send_fds(connection, [b"3"], theirs)
        begun = connection.recv(1)
    for number in theirs:
        os.close(number)
    if not begun:  # it left, or the host was killed
        for pipe in (feed, *outputs):
            pipe.close()
        return None
    out, err = enter.converse(connection.fileno(), feed, outputs, given)
    answer = b""
    with contextlib.suppress(OSError):
        answer = connection.recv(64)
    # Without an answer the host was killed meanwhile, and the program with it.
    status = json.loads(answer) if answer else enter.KILLED + 9
    return status if status >= 0 else enter.KILLED - status, out, err


def connected(container: str, idle: float) -> socket.socket | None:
    """Return a connection to the host's process, which is started where there is none; None where it does not come."""
    door = enter.door(container)
    path = Path(f"/proc/{door.pid}/root{SOCKET}")
    connection = attempt(path)
    if connection is not None:
        return connection
    enter.KNOWN.mkdir(parents=True, exist_ok=True)
    with (enter.KNOWN / f"{container}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = attempt(path)
        if connection is not None:
            return connection
        nothing = subprocess.DEVNULL
        words = [PYTHON, "-c", SERVER, SOCKET, str(idle)]
        process = enter.start(container, words, stdin=nothing, stdout=nothing, stderr=nothing)
        try:
            process.wait(STARTED)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return attempt(path)


def attempt(path: Path) -> socket.socket | None:
    """Connect, where somebody listens."""
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        connection.connect(str(path))
        return connection
    connection.close()
    return None
