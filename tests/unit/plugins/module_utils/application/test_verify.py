# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Questions to a server over TLS that answers what the test says."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application import verify_apply as module
from ansible_collections.uptier.platform.plugins.plugin_utils import application as model
from ansible_collections.uptier.platform.plugins.plugin_utils import deploy


class Server(http.server.ThreadingHTTPServer):
    """Gives its answers one after the other, the last one for ever."""

    answers: list[int]
    asked: list[tuple[str, str]]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.headers["Host"], self.path))
        self.send_response(server.answers.pop(0) if len(server.answers) > 1 else server.answers[0])
        self.end_headers()
        self.wfile.write(b"said so")

    def log_message(self, *dummy: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "host.crt", folder / "host.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=app1.internal", "-addext", "subjectAltName=DNS:app1.internal"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return {"ca": str(cert), "cert": str(cert), "key": str(key)}


@pytest.fixture
def server(tls: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Server]:
    found = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls["cert"], tls["key"])
    if getattr(request, "param", "mutual") == "mutual":
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls["ca"])
    found.socket = context.wrap_socket(found.socket, server_side=True)
    found.answers, found.asked = [200], []
    threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def question(server: Server, **more: Any) -> dict[str, Any]:
    port = server.server_address[1]
    given = {"through": "the router of app1", "address": "127.0.0.1", "port": port, "server_name": "app1.internal", "mutual": True}
    return {**given, "domain": "shop.test", "path": "/up", "worst": 200, **more}


def test_good_answers_have_to_come_in_a_row(server: Server, tls: dict[str, str]) -> None:
    server.answers = [200, 200, 503, 200]
    assert module.verify([question(server)], tls, 3, 60) == ["https://shop.test/up through the router of app1"]
    assert server.asked == [("shop.test", "/up")] * 6


def test_the_last_answer_is_told(server: Server, tls: dict[str, str]) -> None:
    server.answers = [500]
    with pytest.raises(module.VerifyError) as said:
        module.verify([question(server)], tls, 3, 0)
    assert str(said.value) == (
        "https://shop.test/up through the router of app1 was not answered well 3 times in a row within 0 s. "
        "At last: status 500: an error of the application (it answers: said so)."
    )


def test_a_router_of_another_name_is_none(server: Server, tls: dict[str, str]) -> None:
    with pytest.raises(module.VerifyError, match="certificate"):
        module.verify([question(server, server_name="app2.internal")], tls, 1, 0)


@pytest.mark.parametrize("server", ["plain"], indirect=True)
def test_a_gateway_asks_itself_whatever_its_certificate(server: Server, tls: dict[str, str]) -> None:
    server.answers = [403]
    asked = module.verify([question(server, mutual=False, server_name="shop.test", worst=499)], {"ca": "/nowhere"}, 2, 60)
    assert len(asked) == 1


def test_who_does_not_listen_gives_no_answer(server: Server, tls: dict[str, str]) -> None:
    server.server_close()
    with pytest.raises(module.VerifyError, match="no answer"):
        module.verify([question(server)], tls, 1, 0)


ROUTERS = [
    {"name": "app1", "address": "10.0.0.1", "fqdn": "app1.internal", "zone": ""},
    {"name": "app2", "address": "10.0.0.2", "fqdn": "app2.internal"},
]


def test_each_routed_service_is_asked_through_each_router_and_the_gateway() -> None:
    services = [
        {"name": "web", "command": "x", "port": 3000, "health": "/up"},
        {"name": "api", "command": "x", "port": 4000, "health": "/alive", "path": "/api"},
        {"name": "worker", "kind": "worker", "command": "x"},
    ]
    application = model.completed([{"name": "shop", "domains": ["*.shop.test"], "services": services}])[0]
    asked = deploy.questions(application, ROUTERS, 8443, 443)
    assert [(one["through"], one["domain"], one["path"], one["worst"], one["port"], one["mutual"]) for one in asked] == [
        ("the router of app1", "uptier-probe.shop.test", "/up", 200, 8443, True),
        ("the router of app2", "uptier-probe.shop.test", "/up", 200, 8443, True),
        ("this gateway", "uptier-probe.shop.test", "/up", 499, 443, False),
        # Its health path is not below its own, so users' requests for it go to the other service.
        ("the router of app1", "uptier-probe.shop.test", "/api", 499, 8443, True),
        ("the router of app2", "uptier-probe.shop.test", "/api", 499, 8443, True),
        ("this gateway", "uptier-probe.shop.test", "/api", 499, 443, False),
    ]
    assert len(deploy.questions(application, ROUTERS, 8443, 0)) == 4
