# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application sees of its pools, and what the pools verify."""

from __future__ import annotations

import hashlib
import shlex
import time

from harness.platform import wait

testinfra_hosts = ["provider"]  # where the pooler leads to no provider
# The one that it was changed to while clients went on, and the one that it was before.
NEW = """q"u'o\\te $1 %s #! ;:@{no} ü€"""
FORMER = 'qu"o$te'
PASSWORD = shlex.quote(NEW)


def sql(host, text: str, database: str = "shop", user: str = "shop", password: str = PASSWORD, port: int = 6432):
    return host.run(f'PGPASSWORD={password} PGCONNECT_TIMEOUT=60 psql -h 127.0.0.1 -p {port} -U {user} -Atc "{text}" {database}')


def test_the_way_to_the_database_is_tls_1_3(host) -> None:
    out = sql(host, "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert out.stdout.strip() == "TLSv1.3", out.stderr


def test_the_read_only_pool_cannot_write(host) -> None:
    assert sql(host, "INSERT INTO t VALUES (1)").rc == 0
    assert sql(host, "SELECT current_user", "shop_ro").stdout.strip() == "shop_ro"
    assert "permission denied" in sql(host, "INSERT INTO t VALUES (1)", "shop_ro").stderr


def test_a_wrong_password_and_an_unknown_user_are_refused(host) -> None:
    assert sql(host, "SELECT 1", password="wrong").rc != 0
    assert sql(host, "SELECT 1", user="postgres").rc != 0


def test_who_has_another_password_opens_no_pool_that_is_not_its_own(host) -> None:
    """The pool would log in to the server as its own user, whoever opened it."""
    assert console(host, "SHOW VERSION")
    refused = sql(host, "SELECT 1", user="platform_admin", password="482139071234")
    assert refused.rc != 0
    assert "login rejected" in refused.stderr or "no authentication method is found" in refused.stderr, refused.stderr
    assert sql(host, "SHOW VERSION", database="pgbouncer").rc != 0


def client_name(user: str, password: str) -> str:
    return f"{user}.{hashlib.sha256(f'{user} {password}'.encode()).hexdigest()[:4]}"


def test_a_former_password_is_accepted_no_longer(host) -> None:
    """Neither under the user's name nor under the one that went with it; the server's own has changed with it."""
    assert sql(host, "SELECT current_user", user=client_name("shop", NEW)).stdout.strip() == "shop"
    former = {"password": shlex.quote(FORMER)}
    assert sql(host, "SELECT 1", user=client_name("shop", FORMER), **former).rc != 0
    assert sql(host, "SELECT 1", **former).rc != 0
    refused = host.run(
        f"PGPASSWORD={former['password']} psql 'host=postgres-cluster.internal port=5434 user=shop dbname=shop' -c 'SELECT 1'"
    )
    assert "password authentication failed" in refused.stderr


def test_it_listens_on_loopback_only(host) -> None:
    addresses = host.check_output("ss -Hltn 'sport = :6432'")
    assert "127.0.0.1:6432" in addresses
    assert len(addresses.splitlines()) == 1


def test_a_certificate_of_another_name_is_refused(host) -> None:
    """The same configuration, led to a name that the certificate does not have."""
    host.check_output(
        "mkdir -p /run/other && sed 's/^listen_port.*/listen_port = 6433/; s#^unix_socket_dir.*#unix_socket_dir =#' "
        "/etc/pgbouncer/listen.ini >/run/other/listen.ini && "
        "sed 's/postgres-cluster.internal/other.internal/; s/^query_wait_timeout.*/query_wait_timeout = 3/; "
        "s#/etc/pgbouncer/listen.ini#/run/other/listen.ini#' /etc/pgbouncer/pgbouncer.ini "
        ">/run/other/pgbouncer.ini && chown -R postgres /run/other && "
        "systemd-run --quiet --collect --unit=other -p User=postgres /usr/sbin/pgbouncer /run/other/pgbouncer.ini"
    )
    words = "not present in server certificate"

    def refused():
        assert sql(host, "SELECT 1", port=6433).rc != 0
        return words in host.check_output("journalctl -u other --no-pager")

    try:
        wait("the refusal of the certificate", refused, 60)
    finally:
        host.run("systemctl stop other")


def console(host, text: str) -> str:
    return host.check_output(f"PGPASSWORD=482139071234 psql -h 127.0.0.1 -p 6432 -U platform_admin -Atc '{text}' pgbouncer")


def test_pause_holds_queries_and_resume_lets_them_go(host) -> None:
    console(host, "PAUSE shop")
    try:
        host.check_output(
            f"systemd-run --quiet --collect --unit=held --setenv=PGPASSWORD={PASSWORD} "
            "psql -h 127.0.0.1 -p 6432 -U shop -Atc 'INSERT INTO t VALUES (99)' shop"
        )
        time.sleep(1.5)
        assert host.run("systemctl is-active held").stdout.strip() == "active"
    finally:
        console(host, "RESUME shop")
    wait("the end of the query", lambda: host.run("systemctl is-active held").stdout.strip() != "active", 60)
    assert sql(host, "SELECT count(*) FROM t WHERE n = 99").stdout.strip() == "1"
    sql(host, "DELETE FROM t WHERE n = 99")


def test_the_collector_reads_the_console_without_a_password(host) -> None:
    out = host.run("su postgres -s /bin/sh -c \"psql -h /run/postgresql -p 6432 -U pgbouncer -Atc 'SHOW POOLS' pgbouncer\"")
    assert "shop_ro" in out.stdout or "pgbouncer" in out.stdout, out.stderr


def test_a_pool_size_was_taken_over(host) -> None:
    out = host.check_output("su postgres -s /bin/sh -c \"psql -h /run/postgresql -p 6432 -U pgbouncer -Atc 'SHOW DATABASES' pgbouncer\"")
    row = next(line.split("|") for line in out.splitlines() if line.startswith("shop|"))
    assert "12" in row


def test_passwords_are_readable_by_the_pooler_only(host) -> None:
    file = host.file("/etc/pgbouncer/userlist.txt")
    assert (file.mode, file.user, file.group) == (0o640, "root", "postgres")
