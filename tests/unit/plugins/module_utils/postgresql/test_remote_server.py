# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sessions over TLS, and what an administrator who is not a superuser can do, against real servers as a provider runs them.

Each PostgreSQL whose programs this machine has; UPTIER_POSTGRESQL names further directories of programs, with colons between them.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.remote import Remote
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import SessionError, SqlError
from ansible_collections.uptier.platform.plugins.modules import pg_objects, pg_schema, pg_server_info
from ansible_collections.uptier.platform.plugins.plugin_utils.programs import library
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROLES = Path(__file__).resolve().parents[5] / "roles"
PROGRAMS = [
    *(Path(entry) for entry in os.environ.get("UPTIER_POSTGRESQL", "").split(":") if entry),
    *Path("/usr/lib/postgresql").glob("*/bin"),
]
USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
OPTIONS = "fsync=off\nmax_connections=30\nshared_buffers=16MB\nautovacuum=off\nlog_statement=all\nssl=on\n"
PASSWORD = "provider-0123456789"
PASSWORDS = {
    "shop_owner": "owner-0123456789",
    "shop": "writer-'\\0123456789",
    "shop_ro": "reader-0123456789",
    "monitor": "monitor-0123456789",
}
SHOP = {"name": "shop", "owner": "shop_owner", "readwrite": ["shop"], "readonly": ["shop_ro"], "extensions": ["pg_trgm"]}
MONITOR = {"name": "monitor", "member_of": ["pg_monitor"], "connection_limit": 5}


def authority(name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate(name, key, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, True), key


def certificate(name: str, key: Any, issuer: x509.Name, signer: Any, is_ca: bool = False) -> x509.Certificate:
    """Without the identifiers that Python 3.13 asks for by default: authorities of providers are as plain."""
    builder = x509.CertificateBuilder(
        issuer, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), x509.random_serial_number(),
        datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=2),
    )  # fmt: skip
    builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    return builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(signer, hashes.SHA256())


def pem(item: Any) -> str:
    if isinstance(item, x509.Certificate):
        return item.public_bytes(serialization.Encoding.PEM).decode()
    return item.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()  # fmt: skip


@dataclass
class Provider:
    """A server as a provider runs it: its users come by TCP and TLS only, and nobody of ours is a superuser."""

    remote: Remote
    folder: Path
    program: Callable[..., str]

    def superuser(self, *statements: str) -> str:
        words = [word for statement in statements for word in ("-c", statement)]
        return self.program("psql", "-h", str(self.folder), "-p", str(self.remote.port), "-XAtqd", "postgres", *words).strip()

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    def asks(self, sql: str, user: str = "", database: str = "postgres") -> str | None:
        login = replace(self.remote, user=user or self.remote.user, password=PASSWORDS.get(user, PASSWORD))
        with login.session(database) as session:
            return session.value(sql)


@pytest.fixture(scope="session", params=PROGRAMS or [None], ids=lambda path: path.parent.name if path else "none")
def started(request: pytest.FixtureRequest) -> Iterator[Provider]:
    if request.param is None or not shutil.which("runuser"):
        pytest.skip("not verified here: no PostgreSQL (Debian package postgresql); scenario role_pools does the same work")
    with tempfile.TemporaryDirectory(prefix="uptier-pg-") as name:
        folder = Path(name)
        shutil.chown(folder, USER)
        prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
        data = folder / "data"

        def program(name: str, *words: str) -> str:
            done = subprocess.run([*prefix, request.param / name, *words], check=True, stdout=subprocess.PIPE, cwd="/", timeout=60)
            return done.stdout.decode()

        program("initdb", "-D", str(data), "-U", USER, "-A", "peer", "-E", "UTF8", "--locale=C", "-N")
        ca, signer = authority("provider")
        key = ec.generate_private_key(ec.SECP256R1())
        for file, text in (("server.crt", pem(certificate("localhost", key, ca.subject, signer))), ("server.key", pem(key))):
            (data / file).write_text(text, encoding="ascii")
            (data / file).chmod(0o600)
            shutil.chown(data / file, USER)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with open(data / "postgresql.conf", "a", encoding="utf-8") as stream:
            stream.write(f"{OPTIONS}port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{folder}'\n")
        (data / "pg_hba.conf").write_text(
            f"local all {USER} peer\nhostssl all older all md5\nhostssl all nobody all reject\nhostssl all all all scram-sha-256\n",
            encoding="ascii",
        )
        program("pg_ctl", "-D", str(data), "-w", "-l", f"{folder}/log", "start")
        try:
            remote = Remote("localhost", "admin", PASSWORD, port, ca=pem(ca))
            found = Provider(remote, folder, program)
            found.superuser(
                f"CREATE ROLE admin LOGIN CREATEROLE CREATEDB PASSWORD '{PASSWORD}'",
                "GRANT pg_monitor TO admin WITH ADMIN OPTION",
                f"CREATE ROLE weak LOGIN PASSWORD '{PASSWORD}'",
                "CREATE ROLE nobody LOGIN",
                f"SET password_encryption = 'md5'; CREATE ROLE older LOGIN PASSWORD '{PASSWORD}'",
            )
            yield found
        finally:
            program("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")


@pytest.fixture
def provider(started: Provider) -> Iterator[Provider]:
    """A server on which nothing of ours is left."""
    yield started
    started.superuser("DROP DATABASE IF EXISTS shop WITH (FORCE)")
    started.superuser("DROP ROLE IF EXISTS shop_owner, shop, shop_ro, monitor")


@pytest.fixture
def run(provider: Provider, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Run a module as a task does."""

    def call(
        module: Any, check: bool = False, fails: bool = False, server: dict[str, Any] | None = None, **arguments: Any
    ) -> dict[str, Any]:
        remote = provider.remote
        keys = ("host", "port", "user", "password", "database", "ca")
        given = {**{key: getattr(remote, key) for key in keys}, **(server or {})}
        result = run_module(module.main, {"_ansible_check_mode": check, "server": given, **arguments})
        assert bool(result.get("failed")) == fails, result
        return result

    return call


def objects(run: Callable[..., dict[str, Any]], **more: Any) -> dict[str, Any]:
    return run(pg_objects, **{"databases": [SHOP], "roles": [MONITOR], "passwords": PASSWORDS, **more})


# -- a session -------------------------------------------------------------------------------------------------------


def test_a_session_is_encrypted_and_knows_its_user(provider: Provider) -> None:
    with provider.remote.session() as session:
        assert session.tls == "TLSv1.3"
        assert session.value("SELECT current_user") == "admin"
        assert session.value("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "TLSv1.3"
        with pytest.raises(SqlError, match="division by zero"):
            session.execute("SELECT 1 / 0")
        assert session.value("SELECT 2") == "2"


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"password": "wrong"}, "wrong_password", "does not accept the password of admin"),
        ({"user": "stranger"}, "wrong_password", "does not accept the password of stranger"),
        ({"host": "127.0.0.1"}, "certificate_refused", "not valid for '127.0.0.1'"),
        ({"ca": pem(authority("somebody else")[0])}, "certificate_refused", "cannot be verified against the given authority"),
        ({"ca": ""}, "certificate_refused", "cannot be verified against the authorities that this system trusts"),
        ({"ca": "a page that says: log in first"}, "bad_authority", "not a certificate in PEM format"),
        ({"port": 1}, "not_reachable", "Connection refused"),
        ({"host": "nowhere.invalid"}, "unknown_name", "nowhere.invalid cannot be resolved"),
        ({"user": "older"}, "no_scram", "an MD5 hash of the password"),
        ({"user": "nobody"}, "not_allowed", "does not let nobody in"),
    ],
)
def test_what_is_refused_is_named(provider: Provider, changes: dict[str, Any], reason: str, words: str) -> None:
    with pytest.raises(SessionError) as caught:
        replace(provider.remote, **changes).session()
    assert caught.value.reason == reason
    assert words in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in repr(provider.remote)


@pytest.mark.parametrize(("answer", "words"), [(b"N", "offers no TLS"), (b"", "is not PostgreSQL"), (b"HTTP/1.1 400", "is not PostgreSQL")])
def test_a_server_without_tls_hears_no_password(answer: bytes, words: str) -> None:
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, dummy = listener.accept()
            with connection, contextlib.suppress(OSError):
                heard.append(connection.recv(100))
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                heard.append(connection.recv(1000))

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(SessionError, match=words) as caught:
            Remote("localhost", "admin", PASSWORD, listener.getsockname()[1]).session()
        thread.join(10)
    assert caught.value.reason == "no_tls"
    assert len(b"".join(heard)) == 8


def test_a_server_that_accepts_before_it_has_proved_itself_is_refused(tmp_path: Path) -> None:
    """It has a certificate of the right authority, and no idea of the password."""
    ca, signer = authority("provider")
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "both.pem").write_text(pem(certificate("localhost", key, ca.subject, signer)) + pem(key), encoding="ascii")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")

    def says(kind: int, body: bytes = b"") -> bytes:
        return b"R" + struct.pack("!ii", len(body) + 8, kind) + body

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, dummy = listener.accept()
            with contextlib.suppress(OSError):
                connection.recv(8)
                connection.sendall(b"S")
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(1000)
                    secured.sendall(says(10, b"SCRAM-SHA-256\0\0"))
                    nonce = secured.recv(1000).partition(b"r=")[2]
                    secured.sendall(says(11, b"r=" + nonce + b"more,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
                    secured.recv(1000)
                    secured.sendall(says(0))
                    secured.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(SessionError, match="accepted the password without knowing it") as caught:
            Remote("localhost", "admin", PASSWORD, listener.getsockname()[1], ca=pem(ca)).session()
        thread.join(10)
    assert caught.value.reason == "not_the_server"


def test_a_password_is_recognised_also_where_its_user_may_not_enter(provider: Provider) -> None:
    provider.superuser("CREATE DATABASE shop", "REVOKE ALL ON DATABASE shop FROM PUBLIC")
    inside = replace(provider.remote, database="shop")
    assert inside.accepts("weak", PASSWORD)
    assert not inside.accepts("weak", "wrong")
    assert not inside.accepts("older", PASSWORD)
    assert replace(provider.remote, database="no such database").accepts("weak", PASSWORD)
    with pytest.raises(SessionError):
        replace(provider.remote, port=1).accepts("weak", PASSWORD)


# -- whether a server can be used --------------------------------------------------------------------------------------


def test_a_server_that_can_be_used(run: Callable[..., dict[str, Any]], provider: Provider) -> None:
    seen = run(pg_server_info, needs=["createdb", "createrole"], grants=["pg_monitor"], connections=20, replica_host="localhost",
               replica_port=provider.remote.port)  # fmt: skip
    assert (seen["tls"], seen["superuser"], seen["changed"]) == ("TLSv1.3", False, False)
    assert seen["release"] == int(provider.superuser("SHOW server_version_num")) // 10000
    assert seen["connections"] in (27, 30)


def test_all_that_is_wrong_is_said_at_once(run: Callable[..., dict[str, Any]]) -> None:
    seen = run(pg_server_info, fails=True, server={"user": "weak"}, needs=["createdb", "createrole"], grants=["pg_monitor"], connections=50,
               replica_host="nowhere.invalid")  # fmt: skip
    assert len(seen["problems"]) == 4
    assert "The user weak of localhost:" in seen["problems"][0]
    assert "ALTER ROLE weak CREATEDB CREATEROLE." in seen["problems"][0]
    assert "cannot grant pg_monitor" in seen["problems"][1]
    assert "and up to 50 may be needed" in seen["problems"][2]
    assert "nowhere.invalid cannot be resolved" in seen["problems"][3]
    assert seen["reason"] == "not_usable"


def test_a_login_that_fails_has_its_reason(run: Callable[..., dict[str, Any]]) -> None:
    assert run(pg_server_info, fails=True, server={"password": "not-the-one"})["reason"] == "wrong_password"


# -- roles, databases, privileges --------------------------------------------------------------------------------------


def test_an_administrator_who_is_no_superuser_gets_everything_made_once(run: Callable[..., dict[str, Any]], provider: Provider) -> None:
    foreseen = objects(run, check=True)
    assert provider.superuser("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'shop%'") == "0"
    made = objects(run)
    assert made["statements"] == foreseen["statements"]
    assert not any("SUPERUSER" in text or "REPLICATION" in text for text in made["statements"])
    again = objects(run)
    assert (again["changed"], again["statements"]) == (False, [])
    assert objects(run, check=True)["statements"] == []
    assert provider.superuser("SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY 1") == USER


def test_its_users_can_do_what_they_are_for(run: Callable[..., dict[str, Any]], provider: Provider) -> None:
    objects(run)
    with replace(provider.remote, user="shop_owner", password=PASSWORDS["shop_owner"]).session("shop") as owner:
        owner.execute("CREATE TABLE t (n int GENERATED ALWAYS AS IDENTITY)")
    assert provider.asks("INSERT INTO t DEFAULT VALUES RETURNING n", "shop", "shop") == "1"
    assert provider.asks("SELECT count(*) FROM t", "shop_ro", "shop") == "1"
    with pytest.raises(SqlError, match="read-only transaction"):
        provider.asks("INSERT INTO t DEFAULT VALUES RETURNING n", "shop_ro", "shop")
    with pytest.raises(SqlError, match="permission denied"):
        provider.asks("CREATE TABLE x (n int)", "shop", "shop")
    with pytest.raises(SqlError, match="permission denied for database"):
        provider.asks("SELECT 1", "monitor", "shop")
    assert provider.asks("SELECT count(*) FROM pg_ls_archive_statusdir()", "monitor") == "0"


def test_a_changed_password_is_set_and_seen_by_nobody(run: Callable[..., dict[str, Any]], provider: Provider) -> None:
    objects(run)
    changed = objects(run, passwords={**PASSWORDS, "shop": "another-0123456789"})
    assert changed["statements"] == ["ALTER ROLE \"shop\" PASSWORD '(not shown)'"]
    assert provider.remote.accepts("shop", "another-0123456789")
    log = provider.log()
    assert "ALTER ROLE" in log
    assert not any(password in log for password in [*PASSWORDS.values(), "another-0123456789"])


def test_what_only_a_superuser_can_do_is_refused(run: Callable[..., dict[str, Any]]) -> None:
    failed = objects(run, fails=True, roles=[{"name": "monitor", "replication": True}])
    assert failed["reason"] == "not_a_superuser"
    assert "The role monitor should be REPLICATION. admin is not a superuser" in failed["msg"]


def test_what_the_server_refuses_is_passed_on(run: Callable[..., dict[str, Any]], provider: Provider) -> None:
    failed = objects(run, fails=True, server={"user": "weak"})
    assert (failed["reason"], "permission denied to create role" in failed["msg"]) == ("sql_failed", True)
    assert provider.superuser("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'shop%'") == "0"


# -- indexes, partitions, scripts ---------------------------------------------------------------------------------------


def test_schema_is_brought_about_with_the_owners_rights(run: Callable[..., dict[str, Any]], provider: Provider) -> None:
    objects(run)
    with replace(provider.remote, user="shop_owner", password=PASSWORDS["shop_owner"]).session("shop") as owner:
        owner.execute("CREATE TABLE orders (id int, at date NOT NULL) PARTITION BY RANGE (at)")
        owner.execute("CREATE TABLE users (id int, email text)")
    wanted: dict[str, Any] = {
        "indexes": [
            {"database": "shop", "table": "users", "name": "users_email", "expressions": ["lower(email)"], "unique": True},
            {"database": "shop", "table": "orders", "name": "orders_id", "columns": ["id"]},
        ],
        "partitions": [{"database": "shop", "table": "orders", "interval": "month", "premake": 1}],
        "scripts": [
            {"database": "shop", "name": "first", "sql": "CREATE TABLE made (n int)", "role": "shop_owner"},
            {"database": "shop", "name": "second", "sql": "GRANT SELECT ON made TO shop_ro"},
        ],
        "now": "2025-10-15",
    }
    foreseen = run(pg_schema, check=True, **wanted)
    made = run(pg_schema, **wanted)
    assert made["leads"]
    assert set(foreseen["statements"]) - set(made["statements"]) == set()
    assert run(pg_schema, **wanted)["statements"] == []
    owners = "SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ',') FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert provider.asks(owners, database="shop") == "shop_owner"
    valid = "SELECT count(*) FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indisvalid AND relnamespace = 'public'::regnamespace"
    assert provider.asks(valid, database="shop") == "4"  # two declared ones, and the parts of two partitions
    assert provider.asks("SELECT count(*) FROM orders_2025_11", "shop_ro", "shop") == "0"


def test_the_timer_looks_after_partitions_as_the_owner(run: Callable[..., dict[str, Any]], provider: Provider, tmp_path: Path) -> None:
    """The program as the role puts it on a host, which has no collection."""
    objects(run)
    # Where scripts ran there is a schema of the administrator's, which the owner cannot use.
    run(pg_schema, scripts=[{"database": "shop", "name": "first", "sql": "SELECT 1", "role": "shop_owner"}])
    with replace(provider.remote, user="shop_owner", password=PASSWORDS["shop_owner"]).session("shop") as owner:
        owner.execute("CREATE TABLE orders (id int, at date NOT NULL) PARTITION BY RANGE (at)")
    program = ROLES / "postgresql" / "files" / "postgresql_partitions.py"
    for name, text in {program.name: program.read_text(encoding="utf-8"), **library(program)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "ca.crt").write_text(provider.remote.ca, encoding="utf-8")
    config: dict[str, Any] = {
        "server": {},
        "remote": {
            "host": "localhost", "port": provider.remote.port, "ca": str(tmp_path / "ca.crt"),
            "owners": {"shop": "shop_owner"}, "passwords": {"shop_owner": PASSWORDS["shop_owner"]},
        },
        "partitions": [{"database": "shop", "table": "orders", "interval": "month", "premake": 1}],
        "metrics": str(tmp_path / "p.prom"),
    }  # fmt: skip

    def timer() -> subprocess.CompletedProcess[str]:
        (tmp_path / "c.json").write_text(json.dumps(config), encoding="utf-8")
        command = [sys.executable, "-B", str(tmp_path / "postgresql_partitions.py"), str(tmp_path / "c.json"), "--now", "2031-10-20"]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={}, cwd="/", timeout=60)

    done = timer()
    assert (done.returncode, done.stderr) == (0, "")
    assert provider.asks("SELECT count(*) FROM orders_2031_11", "shop_ro", "shop") == "0"
    assert timer().stdout == ""
    assert 'pg_partitions_ahead{database="shop",table="public.orders"} 1' in (tmp_path / "p.prom").read_text(encoding="utf-8")
    config["remote"]["passwords"]["shop_owner"] = "not-the-one"
    done = timer()
    assert done.returncode == 1
    assert "wrong_password: localhost:" in done.stderr
    config["remote"]["ca"] = str(tmp_path / "gone.crt")
    assert "gone.crt" in timer().stderr
    assert "pg_partitions_run_success 0" in (tmp_path / "p.prom").read_text(encoding="utf-8")


def test_a_server_that_cannot_be_reached_fails_the_task(run: Callable[..., dict[str, Any]]) -> None:
    failed = run(pg_schema, fails=True, server={"password": "not-the-one"}, indexes=[])
    assert failed["reason"] == "wrong_password"
    assert "PostgreSQL at localhost:" in failed["msg"]
