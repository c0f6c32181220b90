# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make bench-backup` counts and prints. Nothing is timed here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

import bench_backup as bench
from support import Problem


def test_the_fastest_rounds_are_compared_and_amcheck_is_counted_by_itself() -> None:
    plain, proofs = bench.figures("noise\nplain 10\nproof 8 4 20\nplain 14.5\nproof 9 9 19\n")
    text, ratio = bench.report(plain, proofs)
    assert ratio == pytest.approx(1.2)
    assert "plain 10.0 s; proof 12.0 s, ratio 1.20" in text
    assert "amcheck 19.0 s" in text


@pytest.mark.parametrize("output", ["", "plain 10\n", "ERROR: no space left\n"])
def test_half_a_round_is_none(output: str) -> None:
    with pytest.raises(Problem, match="not one round"):
        bench.figures(output)
