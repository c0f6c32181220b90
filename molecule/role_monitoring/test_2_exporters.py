# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every exporter tells the truth about its daemon, to those with a certificate and to nobody else."""

from __future__ import annotations

import re
import time

import pytest

CLIENT = "curl -sS --max-time 60 --cacert /etc/uptier/pki/ca.crt"
OWN = f"{CLIENT} --cert /etc/uptier/pki/host.crt --key /etc/uptier/pki/host.key"
# That of the node exporter is asked in test_1_monitoring.py.
PORTS = {"gateway": 9113, "redis": 9121, "pgbouncer": 9127, "postgres": 9187}


def name(host):
    return host.check_output("hostname")


def metrics(host, port, path="/metrics"):
    """Return the samples of a page as {series: value}."""
    text = host.check_output(f"{OWN} --fail --retry 3 --retry-all-errors 'https://{name(host)}.internal:{port}{path}'")
    return {series: float(value) for series, value in re.findall(r"^([a-z][^#\n]*?) (\S+)$", text, re.MULTILINE)}


def until(check, seconds=180):
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f"still {value!r} after {seconds} s"
        time.sleep(1)
    return value


def page_with(host, series, port, path="/metrics"):
    """Return the samples of a page once the daemon behind it has answered: `series` is 1."""

    def answered():
        page = metrics(host, port, path)
        return page if page[series] == 1 else None

    return until(answered)


@pytest.mark.parametrize("exporter", PORTS)
def test_strangers_are_refused(host, exporter):
    url = f"https://{name(host)}.internal:{PORTS[exporter]}/metrics"
    assert host.run(f"{OWN} -o /dev/null {url}").rc == 0
    assert host.run(f"{CLIENT} -o /dev/null {url}").rc != 0, "answers without a client certificate"
    assert host.run(f"{OWN} --tls-max 1.2 -o /dev/null {url}").rc != 0, "speaks TLS 1.2"


def test_gateway_counts_what_clients_saw(host):
    page = page_with(host, "nginx_up", 9113)
    before = {status: page.get(f'gateway_http_requests_total{{vhost="demo.test",status="{status}"}}', 0) for status in ("200", "500")}
    host.check_output("for i in 1 2 3 4 5 6 7 8 9 10; do curl -s -o /dev/null -H 'Host: demo.test' http://127.0.0.1:8088/good; done")
    host.check_output("for i in 1 2; do curl -s -o /dev/null -H 'Host: demo.test' http://127.0.0.1:8088/bad; done")
    host.check_output("curl -s -o /dev/null -H 'Host: scanner.example' http://127.0.0.1:8088/good")

    def counted():
        page = metrics(host, 9113)
        now = {
            status: page.get(f'gateway_http_requests_total{{vhost="demo.test",status="{status}"}}', 0) - before[status] for status in before
        }
        return page if now == {"200": 10, "500": 2} and 'gateway_http_requests_total{vhost="other",status="200"}' in page else None

    page = until(counted)
    assert page['gateway_http_request_duration_seconds_bucket{vhost="demo.test",le="+Inf"}'] >= 12
    assert page["gateway_log_lines_unread_total"] == 0


def test_gateway_goes_on_after_the_log_was_rotated(host):
    series = 'gateway_http_requests_total{vhost="demo.test",status="200"}'
    before = metrics(host, 9113).get(series, 0)
    host.check_output("mv /var/log/nginx/access.log /var/log/nginx/access.log.1")
    host.check_output("curl -s -o /dev/null -H 'Host: demo.test' http://127.0.0.1:8088/good")
    host.check_output("nginx -s reopen && sleep 1")
    host.check_output("curl -s -o /dev/null -H 'Host: demo.test' http://127.0.0.1:8088/good")
    until(lambda: metrics(host, 9113).get(series, 0) == before + 2)


def test_gateway_knows_who_holds_the_address(host):
    assert metrics(host, 9113)['keepalived_address_held{address="192.0.2.7"}'] == 1
    host.check_output("ip address del 192.0.2.7/32 dev lo")
    assert metrics(host, 9113)['keepalived_address_held{address="192.0.2.7"}'] == 0
    host.check_output("ip address add 192.0.2.7/32 dev lo")


def test_a_dead_daemon_is_down_and_comes_back(host):
    host.check_output("systemctl stop nginx pgbouncer redis-server")
    assert metrics(host, 9113)["nginx_up"] == 0
    assert metrics(host, 9127)["pgbouncer_up"] == 0
    assert metrics(host, 9121, f"/scrape?target=rediss://{name(host)}.internal:6379")["redis_up"] == 0
    host.check_output("systemctl start nginx pgbouncer redis-server")
    until(lambda: metrics(host, 9127)["pgbouncer_up"] == 1 and metrics(host, 9113)["nginx_up"] == 1)


def test_pgbouncer_shows_its_pools_and_limits(host):
    page = page_with(host, "pgbouncer_up", 9127)
    assert page["pgbouncer_config_max_client_connections"] > 0
    assert page["pgbouncer_used_clients"] >= 1
    assert 'pgbouncer_pools_client_active_connections{database="pgbouncer",user="pgbouncer"}' in page


def test_postgresql_has_the_same_series_on_every_release(host):
    page = page_with(host, "pg_up", 9187)
    names = {series.partition("{")[0] for series in page}
    assert {
        "pg_instance_in_recovery",
        "pg_instance_connections",
        "pg_instance_max_connections",
        "pg_instance_oldest_xid_age",
        "pg_instance_oldest_mxid_age",
        "pg_instance_checksum_failures",
        "pg_instance_start_timestamp_seconds",
        "pg_archive_waiting",
        "pg_archive_failing",
        "pg_archive_last_success_timestamp_seconds",
        "pg_stat_database_xact_commit",
        "pg_stat_database_blks_hit",
        "pg_stat_database_deadlocks",
        "pg_database_size_bytes",
    } <= names


def test_redis_is_asked_by_target(host):
    page = page_with(host, "redis_up", 9121, f"/scrape?target=rediss://{name(host)}.internal:6379")
    names = {series.partition("{")[0] for series in page}
    assert page["redis_memory_max_bytes"] == 32 * 1024 * 1024
    assert {
        "redis_cluster_slots_ok",
        "redis_cluster_state",
        "redis_connected_slaves",
        "redis_instance_info",
        "redis_keyspace_hits_total",
    } <= names


def test_redis_password_is_sent_to_our_own_processes_only(host):
    ask = f"{OWN} -o /dev/null -w '%{{http_code}}' 'https://{name(host)}.internal:9121/scrape"
    assert host.check_output(f"{ask}?target=redis://203.0.113.5:6379'") == "403"
    assert host.check_output(f"{ask}'") == "403"


def test_host_metrics_see_failed_units_and_certificates(host):
    assert 'platform_certificate_not_after_timestamp_seconds{path="/etc/uptier/pki/host.crt"}' in until(
        lambda: {series: value for series, value in metrics(host, 9100).items() if series.startswith("platform_")}
    )
    host.run("systemd-run --unit=broken.service /bin/false")
    until(lambda: metrics(host, 9100).get('platform_failed_unit{unit="broken.service"}') == 1)
    host.check_output("systemctl reset-failed broken.service")


def test_probes_are_asked_on_loopback_only(host):
    assert "127.0.0.1:9115" in host.check_output("ss -Hltn sport = :9115")
    assert "probe_success 0" in host.check_output(
        "curl -s 'http://127.0.0.1:9115/probe?target=https://127.0.0.1:9113/&module=https_service'"
    )


def test_a_new_certificate_is_served_without_a_restart(host):
    def serials():
        ask = f"echo | openssl s_client -connect {name(host)}.internal:{{}} 2>/dev/null | openssl x509 -noout -serial"
        return [host.run(ask.format(port)).stdout.strip() for port in (9100, 9113, 9187)]

    def processes():
        return host.check_output(
            "systemctl show -p MainPID --value platform-exporter-gateway prometheus-node-exporter prometheus-postgres-exporter"
        )

    before, pids = serials(), processes()
    # Signed by its own key: what is served is the question here, not by whom it was signed.
    new = "openssl req -x509 -new -key /etc/uptier/pki/host.key -days 1 -subj /CN=test -out /tmp/new.crt"
    host.check_output(f"cp -p /etc/uptier/pki/host.crt /tmp/host.crt && {new} 2>/dev/null && cat /tmp/new.crt > /etc/uptier/pki/host.crt")
    try:
        until(lambda: all(now not in ("", old) for now, old in zip(serials(), before, strict=True)))
    finally:
        host.check_output("cat /tmp/host.crt > /etc/uptier/pki/host.crt")
    assert processes() == pids


@pytest.mark.parametrize("path", ["/etc/default/prometheus-postgres-exporter", "/etc/default/prometheus-redis-exporter"])
def test_secrets_are_read_by_root_only(host, path):
    assert host.file(path).mode == 0o600
    assert "not-a-secret" not in host.check_output("ps -eo args")
