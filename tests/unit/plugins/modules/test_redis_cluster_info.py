# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules as they run on a host: a process of its own, arguments on its input, nothing that listens."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.uptier.platform.plugins.doc_fragments.redis import ModuleDocFragment

MODULES = ("redis_cluster", "redis_cluster_info", "redis_failover", "redis_reload")
NODES = [{"name": f"h{number % 3}", "address": "127.0.0.1", "port": 1 + number} for number in range(6)]
CLUSTER = {"nodes": NODES, "masters": 3, "replicas_per_master": 1, "password": "secret-secret", "tls_ca": "/nowhere/ca.crt"}


def load(name: str) -> Any:
    return importlib.import_module(f"ansible_collections.uptier.platform.plugins.modules.{name}")


@pytest.fixture
def run(run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def call(name: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
        result = run_module(load(name).main, {**arguments, "_ansible_check_mode": check})
        assert "secret-secret" not in json.dumps({key: value for key, value in result.items() if key != "invocation"})
        return result

    return call


@pytest.mark.parametrize("name", MODULES)
def test_documentation_names_exactly_the_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    seen: dict[str, Any] = {}

    def record(self: Any, argument_spec: dict[str, Any], **dummy: Any) -> None:
        seen.update(argument_spec)
        raise Stop

    monkeypatch.setattr(basic.AnsibleModule, "__init__", record)
    with pytest.raises(Stop):
        load(name).main()
    docs = yaml.safe_load(load(name).DOCUMENTATION)
    options = dict(docs.get("options") or {})
    for fragment in docs["extends_documentation_fragment"]:
        part = "SHAPE" if fragment.endswith(".shape") else "DOCUMENTATION"
        options.update(yaml.safe_load(getattr(ModuleDocFragment, part))["options"])
    assert set(options) == set(seen)
    for option, spec in seen.items():
        told = {key: options[option].get(key) for key in ("type", "default", "required", "choices")}
        assert told == {key: spec.get(key) for key in told}, option


def test_a_cluster_that_is_not_there_is_an_answer(run: Callable[..., dict[str, Any]]) -> None:
    result = run("redis_cluster_info", **CLUSTER)
    assert (result["changed"], result["cluster"]["state"], result["cluster"]["slots_covered"]) == (False, "absent", 0)
    assert result["cluster"]["nodes"][0]["problem"].startswith("the TLS files /nowhere/ca.crt")


def test_check_mode_on_bare_hosts_says_what_would_be_formed(run: Callable[..., dict[str, Any]]) -> None:
    result = run("redis_cluster", check=True, **CLUSTER)
    assert result["changed"]
    assert len(result["steps"]) == 11
    assert "h0:6: replica of" not in result["diff"]["before"]
    assert "replica of" in result["diff"]["after"]


def test_a_real_run_fails_with_reason_and_node(run: Callable[..., dict[str, Any]]) -> None:
    result = run("redis_cluster", **CLUSTER)
    assert result["failed"]
    assert (result["reason"], result["node"]) == ("node_unreachable", "h0:1")


def test_reload_on_bare_hosts_in_check_mode_finds_nothing(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    result = run("redis_reload", check=True, address="127.0.0.1", ports=[1], password="secret-secret", config_file=str(tmp_path / "no"))
    assert (result["changed"], result["applied"], result["restarted"]) == (False, [], [])
    result = run("redis_reload", address="127.0.0.1", ports=[1], password="secret-secret", config_file=str(tmp_path / "no"))
    assert (result["failed"], result["reason"]) == (True, "file_missing")


@pytest.mark.parametrize(("given", "reason"), [({"relieve": ["h0"]}, "not_whole"), ({"relieve": ["h7"]}, "bad_target")])
def test_a_hand_over_that_cannot_be_is_refused(given: dict[str, Any], reason: str, run: Callable[..., dict[str, Any]]) -> None:
    result = run("redis_failover", check=True, **CLUSTER, **given)
    assert (result["failed"], result["reason"]) == (True, reason)


def test_a_weight_is_a_number(run: Callable[..., dict[str, Any]]) -> None:
    result = run("redis_cluster", check=True, **CLUSTER, weights={"h0:1": "much"})
    assert (result["failed"], result["reason"]) == (True, "bad_weight")
