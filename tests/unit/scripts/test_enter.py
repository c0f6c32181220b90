# SPDX-License-Identifier: GPL-3.0-or-later
"""How tests enter their hosts: what is read of the kernel, and how a program is fed and waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from harness import enter  # noqa: E402

FIRST = """\
24 30 0:22 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
26 24 0:24 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
29 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:12 - cgroup cgroup rw,cpu,cpuacct
31 24 0:28 / /sys/fs/cgroup/freezer rw,nosuid shared:13 - cgroup cgroup rw,freezer
77 66 0:27 /docker/abc /var/lib/x/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
25 24 0:23 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
"""
SECOND = "25 24 0:23 / /sys/fs/cgroup rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_groups_of_the_first_version() -> None:
    groups, freezer = enter.control_groups(
        "9:name=systemd:/docker/abc\n7:freezer:/docker/abc\n3:cpu,cpuacct:/docker/abc\n2:perf_event:/docker/abc\n0::/docker/abc/init.scope\n",
        enter.hierarchies(FIRST),
    )
    assert groups == [
        ["/sys/fs/cgroup/systemd/docker/abc/cgroup.procs"],
        ["/sys/fs/cgroup/freezer/docker/abc/cgroup.procs"],
        ["/sys/fs/cgroup/cpu,cpuacct/docker/abc/cgroup.procs"],
        ["/sys/fs/cgroup/unified/docker/abc/cgroup.procs", "/sys/fs/cgroup/unified/docker/abc/init.scope/cgroup.procs"],
    ]
    assert freezer == "/sys/fs/cgroup/freezer/docker/abc/freezer.state"


def test_groups_of_the_second_version() -> None:
    groups, freezer = enter.control_groups("0::/system.slice/docker-abc.scope/init.scope\n", enter.hierarchies(SECOND))
    own = "/sys/fs/cgroup/system.slice/docker-abc.scope"
    assert groups == [[f"{own}/cgroup.procs", f"{own}/init.scope/cgroup.procs"]]
    assert freezer == f"{own}/cgroup.freeze"


def test_capabilities_that_the_host_has_not_are_dropped() -> None:
    assert enter.dropped("CapInh:\t0000000000000000\nCapBnd:\t000000000000000b\n", 4) == "-cap_2,-cap_4"
    assert enter.dropped("CapBnd:\t000000000000001f\n", 4) == ""


def test_joins_before_it_enters(tmp_path: Path) -> None:
    """The first group that takes the process is its group; without one nothing runs."""
    taken, spare = tmp_path / "own", tmp_path / "scope"
    door = enter.Door(1, "0", {}, [[str(tmp_path / "none" / "own"), str(taken)], [str(spare), str(tmp_path / "never")]], "", "")
    words = [word.replace("exec setpriv --groups=0 nsenter -t 1 -m -u -i -n -p -C --", "exec") for word in door.command(["echo", "a b"])]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "a b\n"
    assert (taken.read_text(), spare.read_text(), (tmp_path / "never").exists()) == ("0\n", "0\n", False)
    lost = enter.Door(1, "0", {}, [[str(tmp_path / "none" / "own")]], "", "")
    assert subprocess.run(lost.command(["true"]), check=False).returncode == 125


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what is known of hosts here."""
    monkeypatch.setattr(enter, "KNOWN", tmp_path)
    return tmp_path


def test_a_host_that_started_again_is_looked_up_again(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = enter.started(os.getpid())
    fresh = enter.Door(os.getpid(), begun, {"HOME": "/root"}, [], "", "")
    looked: list[str] = []
    monkeypatch.setattr(enter, "look", lambda container: (looked.append(container), fresh)[1])
    (known / "lab-a").write_text(json.dumps(asdict(enter.Door(os.getpid(), f"{int(begun) - 1}", {}, [], "", ""))), encoding="utf-8")
    assert enter.door("lab-a") == fresh
    assert enter.door("lab-a") == fresh
    assert looked == ["lab-a"]
    enter.forget("lab-")
    assert enter.door("lab-a") == fresh
    assert looked == ["lab-a", "lab-a"]


def test_a_process_that_has_ended_never_started() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet buried
    assert enter.started(process.pid) == ""
    process.wait()
    assert enter.started(process.pid) == ""


@pytest.mark.parametrize(("text", "paused"), [("THAWED\n", False), ("FROZEN\n", True), ("0\n", False), ("1\n", True)])
def test_nobody_enters_a_paused_host(known: Path, text: str, paused: bool) -> None:
    freezer = known / "freezer"
    freezer.write_text(text, encoding="ascii")
    door = enter.Door(os.getpid(), enter.started(os.getpid()), {}, [], str(freezer), "")
    (known / "lab-a").write_text(json.dumps(asdict(door)), encoding="utf-8")
    if paused:
        with pytest.raises(enter.Closed, match="lab-a is paused"):
            enter.door("lab-a")
    else:
        assert enter.door("lab-a") == door


def piped(*words: str) -> subprocess.Popen[bytes]:
    """Start a program with three pipes."""
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_every_byte_arrives() -> None:
    content = os.urandom(3_000_000)
    assert enter.finish(piped("sh", "-c", "tee /dev/stderr; exit 7"), content) == (7, content, content)


def test_input_that_nobody_reads() -> None:
    assert enter.finish(piped("true"), b"x" * 3_000_000) == (0, b"", b"")


def test_a_killed_program_has_the_status_that_a_shell_gives_it() -> None:
    assert enter.finish(piped("sh", "-c", "echo a; kill -9 $$")) == (137, b"a\n", b"")


def test_what_goes_on_in_the_background_is_not_waited_for() -> None:
    begun = time.monotonic()
    assert enter.finish(piped("sh", "-c", "sleep 40 & echo a")) == (0, b"a\n", b"")
    assert time.monotonic() - begun < 30


def test_waiting_ends() -> None:
    with pytest.raises(subprocess.TimeoutExpired) as seen:
        enter.finish(piped("sh", "-c", "echo a; exec sleep 60"), timeout=3)
    assert seen.value.output == b"a\n"


def test_what_a_program_used_is_noted_where_somebody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "seconds"
    for path in ("", str(notes)):
        monkeypatch.setenv(enter.SECONDS_NOTED, path)
        burn = subprocess.Popen(
            [sys.executable, "-c", "sum(range(10_000_000))"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert enter.finish(burn)[0] == 0
    (used,) = notes.read_text(encoding="ascii").split()
    assert 0.05 < float(used) < 30
