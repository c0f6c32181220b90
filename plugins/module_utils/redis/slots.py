# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sets of hash slots: ranges, even shares, and the fewest moves from one distribution to another. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

SLOTS = 16384
Range = tuple[int, int]


def members(ranges: Iterable[Range]) -> set[int]:
    """Return the slots of some ranges; both ends belong to a range."""
    return set().union(*(range(first, last + 1) for first, last in ranges))


def to_ranges(slots: Iterable[int]) -> tuple[Range, ...]:
    """Return slots as ranges in ascending order."""
    found: list[list[int]] = []
    for slot in sorted(slots):
        if found and slot == found[-1][1] + 1:
            found[-1][1] = slot
        else:
            found.append([slot, slot])
    return tuple((first, last) for first, last in found)


def show_ranges(ranges: Iterable[Range]) -> str:
    """Return ranges as Redis writes them."""
    return " ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def split_slots(masters: int) -> list[Range]:
    """Divide all slots evenly."""
    edges = [round(number * SLOTS / masters) for number in range(masters + 1)]
    return [(edges[number], edges[number + 1] - 1) for number in range(masters)]


def deviation(owned: Mapping[str, set[int]], masters: Sequence[str], weights: Mapping[str, float] | None = None) -> float:
    """Return how far the master that differs most is from its share, as a part of that share.

    Args:
        owned: master -> its slots. Who is not among `masters` counts as far from its share of nothing.
        masters: who shall hold slots.
        weights: how large a share is beside the others; 1 where none is given.
    """
    if set(owned) - set(masters):
        return 1.0
    exact = _exact(owned, masters, weights)
    return float(max(abs(len(owned.get(one, ())) - exact[one]) / exact[one] for one in masters))


def _exact(owned: Mapping[str, set[int]], masters: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, Fraction]:
    """Return the share of each master, not rounded."""
    parts = {one: Fraction((weights or {}).get(one, 1)) for one in masters}
    whole = Fraction(sum(map(len, owned.values()))) / sum(parts.values())
    return {one: whole * part for one, part in parts.items()}


def shares(owned: Mapping[str, set[int]], masters: Sequence[str], weights: Mapping[str, float] | None = None) -> dict[str, int]:
    """Return how many slots each master shall have: its share rounded down, and one more for those who lack most of it.

    Among equals those who have most get one more, so that fewer slots move.
    """
    exact = _exact(owned, masters, weights)
    least = {one: int(share) for one, share in exact.items()}
    more = sum(map(len, owned.values())) - sum(least.values())
    first = sorted(masters, key=lambda one: (least[one] - exact[one], -len(owned.get(one, ())), masters.index(one)))[:more]
    return {one: least[one] + (one in first) for one in masters}


def moves(
    owned: Mapping[str, set[int]], masters: Sequence[str], weights: Mapping[str, float] | None = None
) -> list[tuple[str, str, set[int]]]:
    """Return (source, destination, slots): the fewest moves after which `masters` hold all slots in their shares.

    Slots are taken from the upper end of a source, so that ranges stay long. The destinations take turns by what they lack, so
    that a source and a destination meet in one move at most.
    """
    wanted = shares(owned, masters, weights)
    lacking = {one: wanted[one] - len(owned.get(one, ())) for one in masters if wanted[one] > len(owned.get(one, ()))}
    found = []
    for source, slots in owned.items():
        surplus = sorted(slots)[wanted.get(source, 0) :]
        for destination in list(lacking):
            if not surplus:
                break
            count = min(lacking[destination], len(surplus))
            found.append((source, destination, set(surplus[-count:])))
            surplus = surplus[:-count]
            lacking[destination] -= count
            if not lacking[destination]:
                del lacking[destination]
    return found
