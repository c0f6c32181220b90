# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What each worker would do for itself is done before the first one."""

from __future__ import annotations

import gc
import os
import pkgutil
from collections.abc import Callable

import pytest
from ansible.plugins.loader import filter_loader
from ansible_collections.uptier.platform.plugins.callback import prepare_workers
from ansible_collections.uptier.platform.plugins.plugin_utils import data

TABLE = "_cached_non_collection_wrappers"


@pytest.fixture
def in_children(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What a child of the run does first, once the run has been prepared."""
    registered: list[Callable[[], object]] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **given: registered.append(given.get("after_in_child")))
    names = list(prepare_workers.names())
    found = {name: function(name) for name in names}
    monkeypatch.setattr(filter_loader, TABLE, dict(getattr(filter_loader, TABLE)))
    prepare_workers.CallbackModule().v2_playbook_on_start(None)
    # A worker finds what the run had loaded, and looks through no file.
    monkeypatch.setattr(pkgutil, "iter_modules", lambda *words, **more: pytest.fail("a worker looks for a filter"))
    assert {name: function(name) for name in names} == found
    return registered


def function(name: str) -> tuple[str, str]:
    """Where a filter's function is defined, and as what. Some are made anew each time that their file is asked."""
    found = filter_loader.get(name).j2_function
    return found.__module__, found.__qualname__


def test_filters_and_tables_are_there(in_children: list[Callable[[], object]]) -> None:
    assert filter_loader.get("uptier.platform.members").ansible_name == "uptier.platform.members"
    assert data.read.cache_info().currsize >= len(list(data.FOLDER.glob("*.yml")))


def test_children_do_not_look_for_garbage_among_what_they_were_copied_with(in_children: list[Callable[[], object]]) -> None:
    assert in_children[-1] == gc.freeze


def test_another_loader_of_ansible_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is Ansible's own; where it is another thing, filters are found as they always were."""
    monkeypatch.setattr(os, "register_at_fork", lambda **given: None)
    monkeypatch.setattr(filter_loader, TABLE, None)
    monkeypatch.setattr(filter_loader, "get", lambda name: name)
    prepare_workers.CallbackModule().v2_playbook_on_start(None)
    assert getattr(filter_loader, TABLE) is None
