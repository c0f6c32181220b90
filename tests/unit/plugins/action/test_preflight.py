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

NAME = "platform_managed_postgresql"


@pytest.fixture
def validate() -> Any:
    options = preflight.load(preflight.ROLES / "platform" / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    templar = Templar(loader=DataLoader(), variables={})
    action = preflight.ActionModule(MagicMock(), MagicMock(), MagicMock(), MagicMock(), templar, MagicMock())
    return lambda **given: action._validate(options, {"platform_tier": "growth", **given})


def test_no_provider_stays_none(validate: Any) -> None:
    """The specification has defaults for what is inside; filled in, nothing would look like a provider without a name."""
    values, invalid = validate(**{NAME: {}})
    assert values[NAME] == {}
    assert not any(NAME in text for text in invalid)


def test_a_provider_gets_what_is_left_out(validate: Any) -> None:
    values, dummy = validate(**{NAME: {"host": "db.example.com", "admin_user": "admin"}})
    assert (values[NAME]["host"], values[NAME]["replica_host"]) == ("db.example.com", None)


def test_applications_are_handed_on_as_they_were_written(validate: Any) -> None:
    """Their own checks say where in the list something is wrong; the specification would say it without a place, and a second time."""
    given = [{"name": "shop", "services": [{"name": "web", "instances": "max"}]}, "blog"]
    values, invalid = validate(platform_applications=given)
    assert values["platform_applications"] == given
    assert invalid == []
