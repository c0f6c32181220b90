# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.etcd import client as m
from ansible_collections.uptier.platform.plugins.module_utils.etcd.members import EtcdError

TLS = {"ca": "/ca", "cert": "/cert", "key": "/key"}
URLS = [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)]
MEMBERS = [{"name": f"db{number}", "address": f"10.0.0.{number}"} for number in (1, 2, 3)]


class Etcd:
    """Stands for the network: what each member answers, by the last part of its address; what is missing refuses to connect."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {name.strip("_"): answer for name, answer in answers.items()}
        self.asked: list[str] = []
        self.options: dict[str, Any] = {}

    def __call__(self, url: str, **options: Any) -> io.BytesIO:
        self.asked.append(url)
        self.options = options
        answer = self.answers.get(url.split(":")[1].rpartition(".")[2], ConnectionRefusedError("Connection refused"))
        if isinstance(answer, int):
            raise HTTPError(url, answer, "Service Unavailable", None, io.BytesIO(b'{"error":"no leader"}'))  # type: ignore[arg-type]
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer.encode())


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(m.time, "sleep", lambda dummy: None)


def network(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> Etcd:
    etcd = Etcd(**answers)
    monkeypatch.setattr(m, "open_url", etcd)
    return etcd


def cluster(**parameters: Any) -> m.Cluster:
    return m.Cluster(
        SimpleNamespace(params={**TLS, "members": MEMBERS, "name": "db1", "client_port": 2379, "timeout": 1, "unit": "etcd", **parameters})
    )


def test_a_question_has_a_body_and_goes_over_mutual_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = network(monkeypatch, _1='{"kvs": []}')
    assert m.ask(TLS, URLS[0] + "/", "/v3/kv/range", {"key": "a"}) == {"kvs": []}
    assert etcd.asked == ["https://10.0.0.1:2379/v3/kv/range"]
    assert (etcd.options["method"], json.loads(etcd.options["data"])) == ("POST", {"key": "a"})
    assert [etcd.options[name] for name in ("ca_path", "client_cert", "client_key", "use_proxy")] == ["/ca", "/cert", "/key", False]
    m.ask(TLS, URLS[0], "/health")
    assert (etcd.options["method"], etcd.options["data"]) == ("GET", None)


def test_of_a_stream_the_first_result_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    network(monkeypatch, _1='{"result": 1}\n{"result": 2}\n')
    assert m.ask(TLS, URLS[0], "/v3/lease/keepalive", {}) == {"result": 1}


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (503, 503, 'https://10.0.0.1:2379: {"error":"no leader"}'),
        ("", None, "10.0.0.1"),
        ("<html>", None, "10.0.0.1"),
        (TimeoutError("slow"), None, "slow"),
    ],
)
def test_whatever_is_no_answer_says_where_and_why(monkeypatch: pytest.MonkeyPatch, answer: Any, code: int | None, words: str) -> None:
    network(monkeypatch, _1=answer)
    with pytest.raises(m.NoAnswer) as caught:
        m.ask(TLS, URLS[0], "/health")
    assert caught.value.code == code
    assert words in str(caught.value)


def test_endpoints_are_asked_in_order_until_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = network(monkeypatch, _2='{"from": 2}', _3='{"from": 3}')
    assert m.ask_any(TLS, URLS, "/v3/kv/range", {}) == {"from": 2}
    assert [url[:16] for url in etcd.asked] == ["https://10.0.0.1", "https://10.0.0.2"]


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    network(monkeypatch, _3=503)
    with pytest.raises(OSError, match=r"10\.0\.0\.1:2379: Connection refused; .*10\.0\.0\.2.*; .*10\.0\.0\.3:2379: .*no leader"):
        m.ask_any(TLS, URLS, "/v3/kv/range", {})
    with pytest.raises(OSError, match="no endpoint is given"):
        m.ask_any(TLS, [], "/v3/kv/range", {})


def test_the_members_come_from_another_member(monkeypatch: pytest.MonkeyPatch) -> None:
    network(monkeypatch, _1='{"members": ["own"]}', _3='{"members": ["of db3"]}')
    assert cluster().members() == ["of db3"]


def test_where_nobody_runs_there_is_no_member_list(monkeypatch: pytest.MonkeyPatch) -> None:
    network(monkeypatch)
    assert cluster().members() is None


def test_a_member_that_cannot_serve_is_no_empty_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    network(monkeypatch, _2=503)
    with pytest.raises(EtcdError, match="HTTP 503.*no quorum") as caught:
        cluster().members()
    assert caught.value.reason == "no_quorum"


def test_a_change_is_tried_again_and_then_says_what_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = network(monkeypatch, _2=503, _3=503)
    with pytest.raises(EtcdError, match="did not accept add of a member.*no leader") as caught:
        cluster().change("/v3/cluster/member/add", {})
    assert caught.value.reason == "refused"
    assert len(etcd.asked) == 30


def test_a_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    network(monkeypatch, _1='{"health": "true"}')
    cluster().wait(URLS[0])
    network(monkeypatch, _1='{"health": "false"}')
    with pytest.raises(EtcdError, match="'health': 'false'") as caught:
        cluster(timeout=0.05).wait(URLS[0])
    assert caught.value.reason == "not_serving"
