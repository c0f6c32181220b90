# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values against specifications: as Ansible's own validator judges them, with a place, a mend and no secret."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.uptier.platform.plugins.plugin_utils import layers, preflight, specification
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem

VALUES = [0, 7, 1.5, True, "", "text", "12", "yes", [], ["a"], [1], [{"a": 1}], [{"name": "x"}], {}, {"a": 1}, {"name": "x"}]


def text(name: str, value: Any) -> list[str]:
    return [str(problem) for problem in specification.problems_of(name, layers.specifications()[name], value)]


# What Ansible converts for a module, and hands to a template as it is.
def stricter(option: dict[str, Any], value: Any) -> bool:
    kind = option.get("type", "str")
    if kind == "list":
        return not isinstance(value, list) or (option.get("elements", "str") == "str" and any(isinstance(item, dict) for item in value))
    return (
        (kind == "dict" and not isinstance(value, dict))
        or (kind in ("str", "path") and isinstance(value, (list, dict)))
        or (isinstance(value, bool) and kind not in ("bool", "list", "dict"))
    )


def refused_by_ansible(name: str, option: Any, value: Any) -> bool:
    try:
        return bool(ArgumentSpecValidator({name: option}).validate({name: value}, validate_role_argument_spec=True).error_messages)
    except TypeError:  # it has no words for a number in the place of a dictionary
        return True


def test_ansibles_own_validator_agrees() -> None:
    """Every variable of every role with every value: nothing is let through that a role would refuse, and nothing refused that it takes."""
    differ = []
    for name, option in layers.specifications().items():
        for value in VALUES:
            ours = bool(specification.problems_of(name, option, value))
            theirs = refused_by_ansible(name, option, value)
            if ours != theirs and not (ours and (stricter(dict(option), value) or name.endswith("version"))):
                differ.append((name, value, "refused" if ours else "let through"))
    assert differ == []


def test_the_same_of_several_hosts_is_one_problem() -> None:
    options = {"redis_masters": {"type": "int", "default": 3}}
    values = {"a": {"redis_masters": "max"}, "b": {"redis_masters": "max"}, "c": {"redis_masters": 3}}
    seen, fix = "is 'max', which is not a whole number", "Write digits alone, for example redis_masters: 3."
    assert specification.over_all_hosts(options, values) == [Problem("variable redis_masters (on a, b)", seen, fix)]
    values["c"] = values["a"]
    assert specification.over_all_hosts(options, values) == [Problem("variable redis_masters", seen, fix)]


def test_a_secret_is_not_shown() -> None:
    assert text("redis_admin_password", ["hunter2"]) == [
        'variable redis_admin_password is not text. Quote it: redis_admin_password: "...".'
    ]
    user = {"name": "app", "password": {"value": "hunter2"}, "keys": ["app:*"]}
    assert "hunter2" not in str(text("redis_users", [user]))


def test_a_text_inside_a_list_is_no_truth_value() -> None:
    assert text("nginx_site_settings", [{"name": "shop", "maintenance": "false"}]) == [
        "variable nginx_site_settings[0] shop: maintenance is 'false', a text. Write maintenance: true or maintenance: false, without quotes "
        "(in a template: | bool)."
    ]


def test_many_keys_are_not_listed() -> None:
    known = len(layers.specifications()["prometheus_thresholds"]["options"])
    assert text("prometheus_thresholds", {"backup_age_hour": 5}) == [
        f"variable prometheus_thresholds: backup_age_hour is set, and nothing reads it. Did you mean backup_age_hours? There are {known}: see "
        "the README of the role."
    ]


@pytest.mark.parametrize("name", preflight.ON_CONTROLLER)
def test_files_on_the_controller_are_looked_for(name: str) -> None:
    option = layers.specifications()[name]
    texts = [option.get("description"), *(inner.get("description") for inner in (option.get("options") or {}).values())]
    assert "on the controller" in " ".join(map(specification.text_of, texts))
