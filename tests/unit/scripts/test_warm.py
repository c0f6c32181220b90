# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that a loaded Python becomes behave as programs that Python was started for."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from harness import enter, warm  # noqa: E402

CONTAINER = "lab-a"
# What a program sees of its place, but for what differs between any two: numbers of processes.
PLACE = """
import json, os, signal, sys
print(json.dumps({
    "name": __name__, "main": sys.modules["__main__"].__dict__ is globals(), "argv": sys.argv, "path": sys.path, "names": sorted(globals()),
    "loader": str(__loader__), "file": __file__,
    "cwd": os.getcwd(), "umask": os.umask(0), "leads": os.getsid(0) == os.getpid(), "files": sorted(os.listdir("/proc/self/fd")),
    "environment": dict(os.environ), "flags": list(sys.flags), "encodings": [sys.stdin.encoding, sys.stdout.encoding],
    "buffers": [sys.stdout.line_buffering, sys.stderr.line_buffering], "more": sys.stdin.read(), "pipe": str(signal.getsignal(signal.SIGPIPE)),
    "interrupt": str(signal.getsignal(signal.SIGINT)), "nice": os.nice(0), "executable": sys.executable,
}))
"""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Take this machine for the host; return the processes that were started there."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(container: str, words: list[str], **pipes: Any) -> subprocess.Popen[bytes]:
        assert container == CONTAINER
        processes.append(subprocess.Popen(words, cwd="/", start_new_session=True, **pipes))
        return processes[-1]

    monkeypatch.setattr(enter, "KNOWN", tmp_path / "known")
    monkeypatch.setattr(enter, "door", lambda container: enter.Door(os.getpid(), "", {}, [], "", ""))
    monkeypatch.setattr(enter, "start", start)
    monkeypatch.setattr(warm, "PYTHON", sys.executable)
    monkeypatch.setattr(warm, "STARTED", 120)  # whatever else the machine does
    monkeypatch.setattr(warm, "SOCKET", str(tmp_path / "s"))
    yield processes
    end()


def end() -> None:
    """Kill the process that listens, as the end of its host does."""
    with warm.attempt(Path(warm.SOCKET)) or contextlib.nullcontext() as connection:
        if connection:
            os.kill(struct.unpack("iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0], signal.SIGKILL)


def plainly(program: str) -> tuple[int, bytes, bytes]:
    """Start Python for a program."""
    process = subprocess.Popen(
        [sys.executable],
        cwd="/",
        umask=0o022,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    return enter.finish(process, program.encode())


@pytest.mark.parametrize(
    "program",
    [
        PLACE,
        "import sys; print('a'); print('b', file=sys.stderr); sys.exit(7)",
        "import sys; sys.exit('a reason')",
        "import sys; sys.exit()",
        "import os, signal; print('a', flush=True); os.kill(os.getpid(), signal.SIGKILL)",
        "import os; os.write(1, b'x' * 3_000_000); os.write(2, b'y' * 3_000_000)",
        "import atexit; atexit.register(print, 'at the end'); print('a')",
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.3), print('a thread'))).start()",
        "import subprocess; print(subprocess.run(['sh', '-c', 'cat; echo $0; exit 3'], capture_output=True, text=True))",
        "import __main__; print(__main__.__name__, hasattr(__main__, 'program'))",
        "",
    ],
)
def test_a_program_behaves_as_in_a_python_of_its_own(started: list[subprocess.Popen[bytes]], program: str) -> None:
    assert warm.run(CONTAINER, program.encode()) == plainly(program)
    # Nothing of ours is left beside the host's own processes.
    assert [process.poll() for process in started] == [0]


def test_an_error_is_shown_with_its_line(started: list[subprocess.Popen[bytes]]) -> None:
    done = warm.run(CONTAINER, b"def broken():\n    raise ValueError('words')\nbroken()\n")
    assert done is not None
    assert done[0] == 1
    assert b'File "<stdin>", line 2, in broken' in done[2]
    assert done[2].endswith(b"ValueError: words\n")
    assert warm.run(CONTAINER, b"1 +") is not None


def test_one_process_serves_all_and_each_program_has_its_own_luck(started: list[subprocess.Popen[bytes]]) -> None:
    program = b"import random, time; time.sleep(0.2); print(random.random())"
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda dummy: warm.run(CONTAINER, program), range(16)))
    assert len({output for status, output, errors in filter(None, done) if status == 0}) == 16
    assert len(started) == 1


def test_what_goes_on_in_the_background_is_not_waited_for(started: list[subprocess.Popen[bytes]]) -> None:
    begun = time.monotonic()
    assert warm.run(CONTAINER, b"import subprocess; subprocess.Popen(['sleep', '40']); print('a')") == (0, b"a\n", b"")
    assert time.monotonic() - begun < 30


def test_a_caller_that_says_nothing_keeps_nobody_waiting_for_long(started: list[subprocess.Popen[bytes]]) -> None:
    assert warm.run(CONTAINER, b"") == (0, b"", b"")
    silent = warm.connected(CONTAINER, 60)
    gone = warm.connected(CONTAINER, 60)
    assert silent is not None
    assert gone is not None
    gone.close()
    assert warm.run(CONTAINER, b"print(1)") == (0, b"1\n", b"")
    silent.close()


def test_a_host_that_dies_has_killed_the_program(started: list[subprocess.Popen[bytes]]) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(warm.run, CONTAINER, b"import time; print('a', flush=True); time.sleep(5)")
        time.sleep(1.5)
        end()
        assert running.result() == (137, b"a\n", b"")
    # It is started anew over the socket that it left.
    assert warm.run(CONTAINER, b"print(1)") == (0, b"1\n", b"")
    assert len(started) == 2


def test_it_leaves_when_nobody_asks_and_comes_again(started: list[subprocess.Popen[bytes]]) -> None:
    for number in (1, 2):
        assert warm.run(CONTAINER, b"print(1)", idle=0.2) == (0, b"1\n", b"")
        until = time.monotonic() + 30
        while Path(warm.SOCKET).exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert warm.attempt(Path(warm.SOCKET)) is None
        assert len(started) == number


def test_without_it_the_caller_starts_python_itself(started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "PYTHON", "/bin/false")
    assert warm.run(CONTAINER, b"print(1)") is None
    monkeypatch.setattr(warm, "SWITCHED_OFF", "PATH")
    assert not any(map(warm.possible, warm.COMMANDS))


@pytest.mark.parametrize("command", ["/bin/sh -c 'LANG=C /usr/bin/python3 && sleep 0'", "/usr/bin/python3", "/bin/sh -c true"])
def test_any_other_command_is_started_as_it_stands(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(warm.SWITCHED_OFF, raising=False)
    assert all(map(warm.possible, warm.COMMANDS))
    assert not warm.possible(command)
