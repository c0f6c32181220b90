# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the scenarios as the matrix of a CI: a JSON list of jobs, each with a name and stages for scripts/run_tests.py.

Scenarios of operations work on the platform that tier_growth made, so they are one job with it. Only the standard library is
needed, since the job that prints the matrix has no environment yet.
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = "tier_growth"


def matrix(names: list[str]) -> list[dict[str, str]]:
    """Return the jobs for scenarios of these names."""
    shared = sorted(name for name in names if name == SHARED or name.startswith("ops_"))
    alone = sorted(set(names) - set(shared))
    jobs = [{"name": name, "stages": name} for name in alone]
    if shared:
        jobs.append({"name": SHARED, "stages": " ".join(sorted(shared, key=lambda name: (name != SHARED, name)))})
    return jobs


if __name__ == "__main__":
    print(json.dumps(matrix([path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")])))
