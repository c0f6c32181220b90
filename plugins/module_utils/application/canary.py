# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A part of the requests for a new release, and what the router's own statistics say of it beside the old one. Pure functions.

The router counts requests and errors of a server since it was started, and tells its mean response time over the last
requests. What happened in a window follows from two looks. Both releases are looked at in the same window, so what makes both
slow, or fail, is not held against the new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

# A router takes 0 to 256; without a canary each server has 1.
HEAVIEST, USUAL = 256, 1
# The router's mean is over so many requests: the first of them evenly, then each newest one counts for one in so many.
SAMPLES = 512
# So many errors are no accident, whatever else has been seen.
FEW_ERRORS = 5


def weights(share: float, old: int, new: int) -> tuple[int, int]:
    """Return the weights of each of `old` and each of `new` servers at which the new ones together get `share` percent of the requests."""
    if not old or not new:
        return USUAL, USUAL
    each = share / new / ((100 - share) / old)  # of a new one, in units of an old one
    pairs = ((first, max(1, min(HEAVIEST, round(first * each)))) for first in range(1, HEAVIEST + 1))
    return min(pairs, key=lambda pair: (abs(share_of(*pair, old, new) - share), -pair[0]))


def share_of(old_weight: int, new_weight: int, old: int, new: int) -> float:
    """Return the percentage of the requests that new servers get at these weights."""
    return 100 * new * new_weight / (old * old_weight + new * new_weight)


@dataclass(frozen=True)
class Count:
    """What the router has counted for a server so far; `ms` is its mean over the last requests."""

    requests: int = 0
    errors: int = 0
    ms: int = 0


def count_of(row: Mapping[str, str]) -> Count:
    """Return the counters in a row of the router's statistics: an error is an answer 5xx, or none."""

    def number(name: str) -> int:
        return int(row.get(name) or 0)

    answers = sum(number(f"hrsp_{kind}") for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
    return Count(answers, number("hrsp_5xx") + number("econ") + number("eresp"), number("rtime"))


@dataclass(frozen=True)
class Window:
    """What servers did between two looks. `ms` is the mean response time there, known but for `blur`, since the router rounds."""

    requests: int = 0
    errors: int = 0
    ms: float = 0
    blur: float = 0

    @property
    def rate(self) -> float:
        """Return the errors for each request, at most one."""
        return min(1.0, self.errors / self.requests) if self.requests else float(self.errors > 0)

    def __str__(self) -> str:
        return f"{self.requests} requests, {self.errors} errors, {self.ms:.0f} ms"


def window(before: Count, after: Count) -> Window:
    """Return what a server did between two looks. A router that was started anew meanwhile has counted from zero."""
    if after.requests < before.requests or after.errors < before.errors:
        before = Count()
    requests = after.requests - before.requests
    if not requests:
        return Window(errors=after.errors - before.errors)
    # How much of the mean before is left in the mean after.
    left = 1.0
    if before.requests:
        even = min(after.requests, SAMPLES)
        left = before.requests / even if before.requests < SAMPLES else 1.0
        left *= (1 - 1 / SAMPLES) ** (after.requests - max(before.requests, SAMPLES)) if after.requests > SAMPLES else 1.0
    else:
        left = 0.0
    mean = (after.ms - left * before.ms) / (1 - left)
    return Window(requests, after.errors - before.errors, max(0.0, mean), (1 + left) / (1 - left))


def together(windows: Iterable[Window]) -> Window:
    """Return what several servers did in the same window."""
    found = list(windows)
    requests = sum(one.requests for one in found)
    mean = sum(one.ms * one.requests for one in found) / requests if requests else 0.0
    blur = sum(one.blur * one.requests for one in found) / requests if requests else 0.0
    return Window(requests, sum(one.errors for one in found), mean, blur)


@dataclass(frozen=True)
class Limits:
    """What a new release must not exceed. `requests` is how many both releases must have had before anything is good."""

    requests: int = 200
    errors: float = 1.0  # points of a percentage above the old release
    slower: float = 2.0  # times the old release's mean
    slower_ms: float = 50.0  # and so much besides, since small times differ by chance


def judge(old: Window, new: Window, limits: Limits) -> tuple[str, str]:
    """Return whether the new release is `good`, `bad`, or not to be told yet (`wait`), and why.

    Nothing is good without the least number of requests on both sides. Enough errors are bad before.
    """
    chance = 2 * sqrt(old.rate * (1 - old.rate) / new.requests) if new.requests else 0.0
    failing = new.rate > old.rate + limits.errors / 100 + chance
    if failing and (new.errors >= FEW_ERRORS or new.requests >= limits.requests):
        return "bad", f"{new.errors} of {new.requests} requests failed, with the old release {old.errors} of {old.requests}"
    short = min(old.requests, new.requests)
    if short < limits.requests or not short:
        return "wait", f"the new release had {new.requests} requests and the old one {old.requests}, at least {limits.requests} are needed"
    if new.ms - new.blur > (old.ms + old.blur) * limits.slower + limits.slower_ms:
        return "bad", f"requests take {new.ms:.0f} ms, with the old release {old.ms:.0f} ms"
    return "good", f"{new}; the old release {old}"
