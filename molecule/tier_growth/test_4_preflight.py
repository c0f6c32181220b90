# SPDX-License-Identifier: GPL-3.0-or-later
"""A broken inventory on running hosts: every problem in one message, and nothing touched. Each case alone is a unit test."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from harness.platform import Platform, Run

BROKEN = {
    "all": {
        "hosts": {
            "app1": {"redis_memory_shar": 0.2, "redis_memory_share": 0.9},
            "app2": {"ansible_python_interpreter": "/usr/bin/python4"},
            "app3": {"ansible_user": "nobody", "ansible_become": True, "ansible_become_method": "ansible.builtin.sudo"},
            "db2": {"platform_address": "{{ lab_net }}.31"},
            "db1": {"platform_address": "{{ lab_net }}.31"},
        },
        "children": {
            "postgressql": {"hosts": {"db1": {}}},
            "etcd": {"hosts": {"gw2": {}}},
            "app": {"hosts": {"app4": {"lab_number": 99}}},
        },
    }
}
SEEN = [
    "group postgressql is unknown, its hosts (db1) get nothing from it",
    "Did you mean postgresql?",
    "group etcd has 4 members (app1, app2, app3, gw2), an even number",
    "variable redis_memory_shar is set for app1, and no role reads it",
    "host app1 allocates 130% of its memory (redis_memory_share 0.90, app_memory_share 0.40)",
    "hosts db1, db2 share one address",
    "platform_expected_users is 60,000, the tier growth is made for 1,000 to 50,000",
    "secret vault_redis_admin_password is a placeholder",
    "host app2 has no Python at /usr/bin/python4",
    "host app3 does not let the user become root",
    "host app4 is a container that does not exist",
    "Nothing was changed on any host.",
]


@pytest.fixture(scope="module")
def refused(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Run:
    overlay = Path(tmp_path_factory.mktemp("broken")) / "hosts.yml"
    overlay.write_text(yaml.safe_dump(BROKEN))
    wrong = ["-e", "platform_expected_users=60000", "-e", "vault_redis_admin_password=changeme"]
    before = platform.service_starts()
    run = platform.playbook(None, "-i", str(overlay), *wrong)
    assert {host: now for host, now in platform.service_starts().items() if now != before[host]} == {}
    return run


def test_all_problems_are_in_one_message(refused: Run) -> None:
    assert refused.status != 0
    message = next(line for line in refused.output.splitlines() if "has to be solved" in line or "have to be solved" in line)
    at = refused.output.index(message)
    end = refused.output.index("PLAY RECAP", at)
    missing = [text for text in SEEN if text not in refused.output[at:end]]
    assert missing == [], refused.output[-6000:]


def test_nothing_was_touched(refused: Run) -> None:
    assert refused.changed() == {}, refused.changed_tasks()
    assert max(refused.results().values()) < 10, "roles ran on an inventory that preflight refused"
