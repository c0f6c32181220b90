# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application import release_apply


def test_a_router_that_is_there_and_does_not_answer_is_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its instances would be stopped with requests on the way to them."""
    monkeypatch.setattr(release_apply, "ROUTER_SECONDS", 0.2)
    path = tmp_path / "admin.sock"
    assert release_apply.Router(str(path)).put("sample-web", "i3000", "drain") is False
    with socket.socket(socket.AF_UNIX) as router:
        router.bind(str(path))
        router.listen()
        with pytest.raises(release_apply.ReleaseError, match="did not answer `show stat`") as caught:
            release_apply.Router(str(path)).put("sample-web", "i3000", "drain")
    assert caught.value.reason == "router_silent"
