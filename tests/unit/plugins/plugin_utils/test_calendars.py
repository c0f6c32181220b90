# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Times of timers: what systemd 252 takes (tried with systemd-analyze calendar), and what a line of cron is there."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import calendars, layers
from ansible_collections.uptier.platform.plugins.plugin_utils.specification import text_of

TAKEN = """
Sun *-*-* 01:00:00 UTC|daily|03:00|Mon|2026-01-01|*:0/15|Mon,Tue *-*-01..04 12:00:00|*-02~01|Sat,Sun 08:05:40|*-*-* 4:00|*-*-* 00/6:00:00
*-*-* *:00/5:00|*-01/2-01 00:00:00|*-01..03-* 04:05:00|*-*-* 09..17:00:00|Mon-Fri 10:00|Mon..Fri|*-*-1,15 10:00|12-05|2026-*-* *:*:*
*:*:0/10|monday 9:00|Mon, 10:00|*-*-*|10:00 UTC|hourly UTC|hourly Europe/Berlin
"""
REFUSED = """
25:00|0 3 * * *|*-13-01 01:00|every day|Fri 17|*-*-32 10:00|12:60|00:00:60|tomorrow|24:00|*-*-* 24:00:00|10|*|UTC|*-*-0 10:00|03:00 04:00|
"""


def words(text: str) -> list[str]:
    return text.strip().replace("\n", "|").split("|")


@pytest.mark.parametrize("text", words(TAKEN))
def test_what_systemd_takes(text: str) -> None:
    assert calendars.valid(text)


@pytest.mark.parametrize("text", words(REFUSED))
def test_what_systemd_refuses(text: str) -> None:
    assert not calendars.valid(text)


@pytest.mark.parametrize(
    ("cron", "calendar"),
    [
        ("0 */6 * * *", "*-*-* 00/6:00:00"),
        ("30 1 * * 1-6", "Mon..Sat *-*-* 01:30:00"),
        ("*/5 * * * *", "*-*-* *:00/5:00"),
        ("0 0 1 */2 *", "*-01/2-01 00:00:00"),
        ("0 3 * * sun", "Sun *-*-* 03:00:00"),
        ("15 2,14 * * 0,6", "Sun,Sat *-*-* 02,14:15:00"),
        ("5 4 * jan-mar *", "*-01..03-* 04:05:00"),
        ("0 9-17/2 * * 7", "Sun *-*-* 09..17/2:00:00"),
        ("@daily", "daily"),
        # Cron runs on the first of the month and on Mondays; systemd only where both are one day.
        ("0 0 1 * 1", None),
        ("61 * * * *", None),
        ("a b c d e", None),
        ("0 3 * *", None),
        ("0 3 * * */2", None),
    ],
)
def test_a_line_of_cron(cron: str, calendar: str | None) -> None:
    assert calendars.from_cron(cron) == calendar


def test_every_calendar_of_a_specification_is_looked_at() -> None:
    said = {name for name, option in layers.specifications().items() if "OnCalendar" in text_of(option.get("description"))}
    assert said == set(calendars.VARIABLES)
