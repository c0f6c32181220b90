# SPDX-License-Identifier: GPL-3.0-or-later
"""What a proof of a backup costs beside a plain restore and recovery of the same data, round after round on one test host.

The ratio of the fastest rounds counts: whatever else the machine does makes rounds slower, not faster. amcheck, which a plain restore
has not, is counted by itself.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import Any

import engine
import images
from lab import Host, Lab
from support import BIN, CACHE, ROOT, Problem, run, say, stop

LAB = "bench-backup"
RELEASE = 13
SCENARIO = ROOT / "molecule" / "role_postgresql"
SCALES = {True: 10, False: 70}  # pgbench's: 150 MB or 1 GB
MOST = 1.3  # times a plain restore


def figures(output: str) -> tuple[list[float], list[tuple[float, float, float]]]:
    """Return the seconds of the plain rounds, and those of restore, recovery and amcheck of the proofs."""
    plain: list[float] = []
    proofs: list[tuple[float, float, float]] = []
    for words in (line.split() for line in output.splitlines()):
        if words[:1] == ["plain"]:
            plain.append(float(words[1]))
        elif words[:1] == ["proof"]:
            proofs.append((float(words[1]), float(words[2]), float(words[3])))
    if not plain or len(plain) != len(proofs):
        raise Problem(f"not one round was completed:\n{output.strip()[-800:]}")
    return plain, proofs


def report(plain: list[float], proofs: list[tuple[float, float, float]]) -> tuple[str, float]:
    """Return what is printed, and the ratio."""
    restored = min(restore + recovery for restore, recovery, dummy in proofs)
    ratio = restored / min(plain)
    looked = min(seconds for dummy, dummy, seconds in proofs)
    text = f"{len(plain)} rounds, the fastest: plain {min(plain):.1f} s; proof {restored:.1f} s, ratio {ratio:.2f} (at most {MOST}); amcheck {looked:.1f} s"
    return text, ratio


def measure(scale: int, rounds: int) -> str:
    """Make a host with the roles of the scenario, and return what the rounds on it print."""
    engine.up()
    images.build(RELEASE)
    lab = Lab(LAB, [Host("solo", RELEASE, 11, ("solo",))])
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "UPTIER_LAB": LAB}
    try:
        lab.up()
        for name in ("prepare.yml", "converge.yml"):
            say(f"bench: {name}")
            words = [BIN / "ansible-playbook", "-i", CACHE / "labs" / LAB / "inventory.yml", SCENARIO / name]
            run("env", *(f"{key}={environment[key]}" for key in ("ANSIBLE_CONFIG", "UPTIER_LAB")), *words, timeout=1200)
        say(f"bench: {rounds} rounds with pgbench's scale {scale}")
        script = Path(__file__).with_suffix(".sh").read_text(encoding="utf-8")
        return run("docker", "exec", "-i", f"{LAB}-solo", "bash", "-s", "--", str(scale), str(rounds), stdin=script, timeout=1800).stdout
    finally:
        lab.down()


def interrupted(number: int, frame: Any) -> None:
    """End as on Ctrl-C, so that everything is cleaned up."""
    raise KeyboardInterrupt


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="150 MB instead of 1 GB; enough to see that it works")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    try:
        say(f"bench: {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before it begins")
        text, ratio = report(*figures(measure(SCALES[arguments.quick], 3)))
        say(f"measured: {text}")
        # A small database is restored in the time that units and questions take.
        if ratio > MOST and not arguments.quick:
            raise Problem(f"a proof costs {ratio:.2f} times a plain restore and recovery, at most {MOST} is wanted.")
    except KeyboardInterrupt:
        stop("bench", Problem("interrupted; everything was removed."))
    except Problem as problem:
        stop("bench", problem)


if __name__ == "__main__":
    main()
