# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host answers in plain shell, whatever its connection adds to it."""

from __future__ import annotations

from unittest.mock import MagicMock

from ansible.errors import AnsibleConnectionFailure
from ansible_collections.uptier.platform.plugins.action.probe_host import ActionModule

GOOD = "Welcome to host\r\nuptier-probe\r\n0\r\ndebian|13\r\n3.13\r\n"


def run(answers, become=False, **arguments):
    connection = MagicMock(become=MagicMock() if become else None)
    task = MagicMock(check_mode=False, async_val=False, args=arguments)
    action = ActionModule(
        task, connection, MagicMock(), MagicMock(), MagicMock(template=MagicMock(side_effect=lambda value: value)), MagicMock()
    )
    action._low_level_execute_command = MagicMock(side_effect=answers)
    return action.run(None, {})


def answer(stdout="", stderr="", rc=0):
    return {"stdout": stdout, "stderr": stderr, "rc": rc}


def test_a_good_host():
    result = run([answer(GOOD)])
    assert (result["release"], result["python"], result["problems"]) == ("13", "3.13", [])


def test_releases_that_are_there():
    assert run([answer(GOOD + "shop/1.0.0\r\nshop/1.1.0\r\n")])["unpacked"] == ["shop/1.0.0", "shop/1.1.0"]
    assert run([answer(GOOD.replace("3.13", "") + "shop/1.0.0\r\n")])["unpacked"] == ["shop/1.0.0"], "without Python its line is empty"
    assert run([answer(GOOD)])["unpacked"] == []


def test_root_by_sudo():
    assert run([answer(GOOD.replace("\r\n0\r\n", "\r\n1000\r\n")), answer("0\r\n")], become=True)["problems"] == []


def test_sudo_that_is_refused():
    result = run([answer(GOOD), answer("", "sudo: a password is required", 1)], become=True)
    assert result["problems"][0]["seen"] == "does not let the user become root (sudo: a password is required)"


def test_how_ansible_came_in():
    assert run([answer(GOOD.replace("\r\n0\r\n", "\r\n0 root 192.0.2.7\r\n"))])["login"] == {"user": "root", "from": "192.0.2.7"}
    assert run([answer(GOOD)])["login"] == {}


def test_no_python():
    assert run([answer("uptier-probe\n0\ndebian|12\n")])["problems"][0]["seen"] == "has no Python at /usr/bin/python3"


def test_an_unreachable_host_is_a_problem_and_no_failure():
    result = run([AnsibleConnectionFailure("ssh: connect to host 10.0.0.9 port 22: Connection refused")])
    assert "failed" not in result
    assert "unreachable" not in result
    assert result["problems"][0]["seen"] == "refuses the connection"


def test_a_shell_that_says_nothing_of_use():
    assert (
        run([answer("", "Error response from daemon: No such container: x", 1)])["problems"][0]["seen"]
        == "is a container that does not exist"
    )


def test_a_look_at_what_is_there():
    result = run([answer(GOOD), answer('0\r\n{"platform": true}\r\n')], look=True)
    assert (result["found"], result["problems"]) == ({"platform": True}, [])
    assert run([answer(GOOD)])["found"] == {}, "not asked for"


def test_a_look_that_fails_is_not_taken_for_a_bare_host():
    assert run([answer(GOOD), answer("0\r\n", "MemoryError")], look=True)["problems"][0]["seen"] == (
        "could not be looked at for what it has already (MemoryError)"
    )
