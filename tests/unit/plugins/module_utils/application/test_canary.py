# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A part of the requests, and what the router's statistics say of it, with a router that counts as HAProxy does."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application import canary as module
from ansible_collections.uptier.platform.plugins.module_utils.application.canary import Count, Limits, Window
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, 50), st.integers(1, 20), st.integers(1, 20))
def test_new_servers_get_the_part_that_they_are_to_get(share: int, old: int, new: int) -> None:
    of_old, of_new = module.weights(share, old, new)
    assert 1 <= of_old <= module.HEAVIEST
    assert 1 <= of_new <= module.HEAVIEST
    got = module.share_of(of_old, of_new, old, new)
    # One in twenty servers cannot get less than its weight of 1 beside the heaviest.
    assert abs(got - share) < 0.5 or of_new == 1 or of_old in (1, module.HEAVIEST)


@pytest.mark.parametrize("share", [1, 5, 10, 25, 50])
def test_by_turns_the_part_is_kept_over_2000_requests(share: int) -> None:
    """A router that goes by turns gives each server its weight of the turns; so does this one, with two of each."""
    of_old, of_new = module.weights(share, 2, 2)
    servers = {"a": of_old, "b": of_old, "c": of_new, "d": of_new}
    credit, got = dict.fromkeys(servers, 0), dict.fromkeys(servers, 0)
    for dummy in range(2000):
        for name, weight in servers.items():
            credit[name] += weight
        first = max(credit, key=lambda name: credit[name])
        credit[first] -= sum(servers.values())
        got[first] += 1
    assert abs(100 * (got["c"] + got["d"]) / 2000 - share) < 2


class Server:
    """Counts as HAProxy does: whole milliseconds, evenly at first, then each request for one in 512."""

    def __init__(self) -> None:
        self.requests = self.sum = 0

    def answer(self, ms: int, times: int) -> Count:
        for dummy in range(times):
            self.requests += 1
            self.sum = self.sum + ms if self.requests <= module.SAMPLES else self.sum - -(-self.sum // module.SAMPLES) + ms
        samples = max(1, min(self.requests, module.SAMPLES))
        return Count(self.requests, 0, -(-self.sum // samples))


@given(st.sampled_from([0, 1, 100, 511, 512, 2000]), st.integers(0, 300), st.integers(1, 1500), st.integers(0, 300))
def test_the_response_time_of_a_window_is_told_from_two_means(before: int, slow: int, now: int, ms: int) -> None:
    """Else a server that was fast for long looks fast for long after."""
    server = Server()
    window = module.window(server.answer(slow, before), server.answer(ms, now))
    assert window.requests == now
    assert abs(window.ms - ms) <= window.blur


def test_a_router_that_was_started_anew_counts_from_zero() -> None:
    assert module.window(Count(1000, 5, 10), Count(20, 1, 30)) == Window(20, 1, 30.0, 1.0)
    assert module.window(Count(7, 1, 10), Count(7, 2, 10)) == Window(errors=1)


def test_a_row_of_the_statistics_is_read() -> None:
    row = {"hrsp_2xx": "90", "hrsp_4xx": "6", "hrsp_5xx": "4", "econ": "1", "eresp": "", "rtime": "12"}
    assert module.count_of(row) == Count(100, 5, 12)


OLD = Window(1000, 2, 20, 1)


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (OLD, Window(200, 0, 20, 1), "good"),
        (OLD, Window(199, 0, 20, 1), "wait"),
        (OLD, Window(), "wait"),  # no data never advances
        (Window(), Window(500, 0, 20, 1), "wait"),  # nothing to compare with
        (OLD, Window(8, 4, 20, 1), "wait"),  # a few may be an accident
        (OLD, Window(8, 5, 20, 1), "bad"),  # and these are none, whatever is missing to the least number
        (OLD, Window(0, 5), "bad"),  # connections that ended without an answer
        (OLD, Window(200, 2, 20, 1), "good"),
        (OLD, Window(200, 6, 20, 1), "bad"),
        (Window(1000, 500, 20, 1), Window(200, 104, 20, 1), "good"),  # what both suffer from is not the new release
        (Window(1000, 500, 20, 1), Window(200, 180, 20, 1), "bad"),
        (OLD, Window(200, 0, 92, 1), "good"),
        (OLD, Window(200, 0, 99, 1), "bad"),
        (OLD, Window(200, 0, 99, 20), "good"),  # not known so exactly
    ],
)
def test_a_new_release_is_compared_with_the_old_one_in_the_same_window(old: Window, new: Window, verdict: str) -> None:
    assert module.judge(old, new, Limits())[0] == verdict


def test_windows_of_several_servers_are_one() -> None:
    assert module.together([Window(10, 1, 20, 2), Window(30, 0, 40, 4), Window()]) == Window(40, 1, 35.0, 3.5)
    assert module.together([]) == Window()
