# SPDX-License-Identifier: GPL-3.0-or-later
"""When apt is started, and with what."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.uptier.platform.plugins.action.packages import ActionModule

BASE = "dpkg:amd64 installed 1.22\npython3-apt:amd64 installed 3.0\n"


def action(output, check=False, **arguments):
    task = MagicMock(check_mode=check, diff=True, async_val=False, args=arguments)
    made = ActionModule(task, MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock())
    made._low_level_execute_command = MagicMock(return_value={"stdout": output, "stderr": "", "rc": 0})
    made._execute_module = MagicMock(return_value={"changed": True})
    return made


def apt(made):
    return made._execute_module.call_args.kwargs["module_args"]


def test_apt_is_not_started_where_nothing_is_missing():
    made = action(BASE + "lists\n", name=["dpkg"])
    result = made.run(None, {})
    assert (result["changed"], result["missing"]) == (False, [])
    made._execute_module.assert_not_called()


def test_apt_gets_only_what_is_missing():
    made = action(BASE + "lists\n", name=["dpkg", "haproxy"])
    assert made.run(None, {})["missing"] == ["haproxy"]
    assert (apt(made)["name"], apt(made)["cache_valid_time"], apt(made)["policy_rc_d"]) == (["haproxy"], 3600, 101)


def test_lists_are_fetched_where_there_are_none():
    made = action(BASE, name=["haproxy"])
    made.run(None, {})
    assert apt(made)["cache_valid_time"] == 0


def test_a_failure_with_old_lists_is_tried_again_with_new_ones():
    made = action(BASE + "lists\n", name=["haproxy"])
    made._execute_module.side_effect = [{"failed": True, "msg": "404"}, {"changed": True}]
    assert "failed" not in made.run(None, {})
    assert apt(made)["cache_valid_time"] == 0


@pytest.mark.parametrize("output", [BASE, "dpkg:amd64 installed 1\nlists\n"], ids=["no lists", "no library"])
def test_check_mode_says_what_it_would_install_where_apt_could_not(output):
    made = action(output, check=True, name=["haproxy"])
    result = made.run(None, {})
    assert (result["changed"], result["diff"]) == (True, {"prepared": "install haproxy\n"})
    made._execute_module.assert_not_called()


def test_check_mode_asks_apt_where_it_can():
    made = action(BASE + "lists\n", check=True, name=["haproxy"])
    made.run(None, {})
    made._execute_module.assert_called_once()


def test_errors():
    with pytest.raises(AnsibleActionFail, match="'-y' is not a package: expected a Debian package name"):
        action(BASE, name=["-y"]).run(None, {})
    with pytest.raises(AnsibleActionFail, match=r"dpkg-query listed no installed package; it said: nothing\. Is this a Debian host"):
        action("", name=["haproxy"]).run(None, {})


DEAD = "Failed to update apt cache after 5 retries: https://apt.example.com does not answer"


def test_a_source_that_does_not_answer_keeps_nothing_from_the_others():
    made = action(BASE + "lists\n", name=["haproxy"])
    made._execute_module.side_effect = [{"failed": True, "msg": DEAD}, {"changed": True}]
    result = made.run(None, {})
    assert "failed" not in result
    assert (apt(made)["name"], apt(made)["update_cache"], apt(made)["cache_valid_time"]) == (["haproxy"], False, 0)
    assert result["warnings"] == [
        f"{DEAD}. Installed with those that are there. `apt-get update` on the host shows which source does not answer."
    ]


def test_what_no_list_has_is_a_failure_with_both_reasons():
    made = action(BASE + "lists\n", name=["haproxy"])
    made._execute_module.side_effect = [
        {"failed": True, "msg": "no version matched"},
        {"failed": True, "msg": DEAD},
        {"failed": True, "msg": "no version matched"},
    ]
    result = made.run(None, {})
    assert result["failed"]
    assert result["msg"].startswith(f"{DEAD}. With those that are there: no version matched.")


def ahead(made, **variables):
    made._templar = Templar(loader=DataLoader(), variables={})
    return made.run(None, {"acme_provider": "acme", "ansible_facts": {"distribution_major_version": "13"}, **variables})


def test_what_the_roles_of_a_host_will_ask_for_comes_at_once():
    made = action(BASE + "lists\n", name=["haproxy"], ahead_of_groups=["app", "gateway", "postgresql"])
    missing = ahead(made, app_packages=["nodejs", "npm"])["missing"]
    assert missing[0] == "haproxy"
    assert len(missing) == len(set(missing))
    assert {"nginx", "pgbouncer", "nodejs", "npm", "nftables", "certbot"} <= set(missing)
    # Included by a task on a condition; needs files before it; of another group.
    assert not {"keepalived", "postgresql-17", "pgbackrest", "redis-server"} & set(missing)
    made._execute_module.assert_called_once()
    assert "python3-cryptography" not in ahead(action(BASE, ahead_of_groups=["gateway"]), acme_provider="none")["missing"]


def test_without_groups_no_role_is_looked_at():
    assert ahead(action(BASE + "lists\n", name=["dpkg"]))["missing"] == []


def test_what_a_later_role_cannot_have_keeps_nothing_from_the_host():
    made = action(BASE + "lists\n", name=["curl"], ahead_of_groups=["app"])
    made._execute_module.side_effect = [{"failed": True, "msg": "No package matching 'nodejs'"}, {"changed": True}]
    result = ahead(made)
    assert (result["missing"], apt(made)["name"]) == (["curl"], ["curl"])
    made = action(BASE + "lists\n", ahead_of_groups=["app"])
    made._execute_module.side_effect = [{"failed": True, "msg": "No package matching 'nodejs'"}]
    result = ahead(made)
    assert (result["changed"], result["missing"], result.get("failed", False)) == (False, [], False)
