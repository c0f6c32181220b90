# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A reload of the router or of a gateway cuts no websocket that would live otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("role", "ends", "silent"),
    [
        ("haproxy", "haproxy_hard_stop_after", "haproxy_tunnel_timeout"),
        ("nginx", "nginx_worker_shutdown_timeout", "nginx_websocket_timeout"),
    ],
)
@pytest.mark.parametrize("seconds", [None, 7200])
def test_what_was_replaced_stays_as_long_as_a_websocket_may_be_silent(
    rendering: Any, variable_files: Callable[..., list[Any]], role: str, ends: str, silent: str, seconds: int | None
) -> None:
    shown = rendering({} if seconds is None else {silent: seconds})
    seen = [int(shown.show("{{ " + name + " }}", variable_files(role))) for name in (ends, silent)]
    assert seen[0] >= seen[1] >= 3600
