# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the watch makes of Patroni's answers; test_postgresql_watch_server.py freezes servers."""

from __future__ import annotations

import argparse
import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def program(load_program: Any) -> Any:
    return load_program("roles/postgresql/files/postgresql_watch.py")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A key, and a certificate that is its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    key, cert = str(folder / "key"), str(folder / "crt")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=db1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return key, cert


@pytest.fixture
def patroni(files: tuple[str, str]) -> Iterator[Callable[[int, bytes], argparse.Namespace]]:
    """Start a member that answers GET /config with this code and body, to those only who show a certificate."""
    servers = []

    def start(code: int, body: bytes) -> argparse.Namespace:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(code if self.path == "/config" else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files[1])
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(files[1], files[0])
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return argparse.Namespace(patroni=f"https://127.0.0.1:{server.server_port}", ca=files[1], cert=files[1], key=files[0])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (200, {"ttl": 20}, ""),
        (200, {"ttl": 20, "pause": False}, ""),
        (200, {"ttl": 20, "pause": True}, "failover is paused"),
        (502, None, "Patroni does not answer"),
    ],
)
def test_whether_patroni_would_replace_it(
    program: Any, patroni: Callable[[int, bytes], argparse.Namespace], code: int, body: Any, said: str
) -> None:
    why = program.paused(patroni(code, json.dumps(body).encode() if body else b""))
    assert why.startswith(said)
    assert bool(why) == bool(said)


def test_nobody_answers(program: Any, files: tuple[str, str]) -> None:
    given = argparse.Namespace(patroni="https://127.0.0.1:1", ca=files[1], cert=files[1], key=files[0])
    assert program.paused(given).startswith("Patroni does not answer (")


def test_there_is_nowhere_to_report(program: Any, tmp_path: Path) -> None:
    """Before node_exporter is there."""
    report = program.Report(tmp_path / "away" / "watch.prom")
    report.write(now=True)
    program.Report(None).write(now=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "away").mkdir()
    with pytest.raises(SystemExit, match="restarting, to report in it"):
        report.write(now=True)
    program.Report(tmp_path / "away" / "watch.prom").write(now=True)
    assert "pg_login_unanswered_seconds 0\n" in (tmp_path / "away" / "watch.prom").read_text(encoding="ascii")


def test_a_name_with_a_bracket_is_no_trap(program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PROC", tmp_path)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a) T 1 (b) T 3 7 7 0 -1 0 0 0 0 0 1 2 0 0 20 0 1 0 4711 9 9\n", encoding="ascii")
    found = program.process(7)
    assert (found.name, found.state, found.parent, found.started, found.stopped) == ("a) T 1 (b", "T", 3, 4711, True)
