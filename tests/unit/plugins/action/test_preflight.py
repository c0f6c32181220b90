# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the preflight makes of the platform's page before it looks at anything; the checks themselves are tested as pure functions."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.uptier.platform.plugins.action import preflight
from ansible_collections.uptier.platform.plugins.plugin_utils import layers

NAME = "platform_managed_postgresql"


@pytest.fixture
def page() -> Any:
    def values(**given: Any) -> dict[str, Any]:
        variables = {**layers.defaults("platform"), "platform_tier": "growth", **given}
        templar = Templar(loader=DataLoader(), variables=variables)
        return preflight.ActionModule(MagicMock(), MagicMock(), MagicMock(), MagicMock(), templar, MagicMock())._page(variables)

    return values


def test_no_provider_stays_none(page: Any) -> None:
    """The specification has defaults for what is inside; filled in, nothing would look like a provider without a name."""
    assert page(**{NAME: {}})[NAME] == {}


def test_a_provider_gets_what_is_left_out(page: Any) -> None:
    values = page(**{NAME: {"host": "db.example.com", "admin_user": "admin"}})
    assert (values[NAME]["host"], values[NAME]["replica_host"]) == ("db.example.com", None)


def test_applications_are_handed_on_as_they_were_written(page: Any) -> None:
    """Their own checks say where in the list something is wrong; the specification would say it without a place, and a second time."""
    given = [{"name": "shop", "services": [{"name": "web", "instances": "max"}]}, "blog"]
    assert page(platform_applications=given)["platform_applications"] == given


def test_a_value_that_the_specification_refuses_is_left_to_it(page: Any) -> None:
    """Other checks take numbers for numbers."""
    values = page(platform_expected_users="many", platform_flows_extra="none")
    assert "platform_expected_users" not in values
    assert "platform_flows_extra" not in values
    assert page(platform_expected_users="20000")["platform_expected_users"] == 20000
