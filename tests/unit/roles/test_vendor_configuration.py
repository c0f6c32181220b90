# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Configurations of Grafana, Loki and Alloy as far as they can be checked without the programs.

What the programs say themselves is not verified here: grafana, loki, alloy (vendor's repository). The roles let
`loki -verify-config` and `alloy fmt` check the files before they are put in place, where they are installed.
"""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DASHBOARDS = ROOT / "roles" / "grafana" / "files" / "dashboards"
VALUES = {
    "platform_domain": "demo.test",
    "platform_address": "192.0.2.41",
    "vault_grafana_admin_password": 'quotes"and#signs;too',
    "vault_grafana_secret_key": "0123456789abcdef",
    "grafana_settings": [{"section": "log", "name": "filters", "value": "rendering:debug"}],
}


@pytest.fixture(scope="module")
def rendered(render_role):
    """Return a function that returns the text of a role's file."""
    done = {}

    def render(role, name):
        if role not in done:
            names = sorted(path.name for path in (ROOT / "roles" / role / "templates").glob("*.j2"))
            done[role] = render_role(role, names, {**VALUES, f"{role}_file_checksum": "0" * 64})
        return done[role][name]

    return render


def test_grafana_settings_can_be_read_back(rendered):
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string("[DEFAULT]\n" + rendered("grafana", "grafana.ini"))
    assert parser["server"]["protocol"] == "https"
    assert parser["server"]["min_tls_version"] == "TLS1.3"
    assert parser["server"]["domain"] == "grafana.demo.test"
    assert parser["auth.anonymous"]["enabled"] == "false"
    assert parser["users"]["allow_sign_up"] == "false"
    assert parser["security"]["admin_password"].strip('"') == VALUES["vault_grafana_admin_password"].rstrip('"')
    assert parser["log"]["filters"] == "rendering:debug"


def test_data_sources_show_a_certificate_and_are_those_of_the_dashboards(rendered):
    sources = yaml.safe_load(rendered("grafana", "datasources.yml"))["datasources"]
    known = {source["uid"]: source for source in sources}
    assert set(known) == {"prometheus", "alertmanager", "loki"}
    for source in sources:
        assert source["url"].startswith("https://localhost.internal:")
        assert source["jsonData"]["tlsAuth"] is True
        assert source["jsonData"]["tlsAuthWithCACert"] is True
        assert source["secureJsonData"]["tlsClientKey"] == "$__file{/etc/uptier/pki/host.key}"
    assert [source["uid"] for source in sources if source["isDefault"]] == ["prometheus"]


@pytest.mark.parametrize("path", sorted(DASHBOARDS.glob("*.json")), ids=lambda path: path.stem)
def test_dashboard_is_whole(path):
    board = json.loads(path.read_text(encoding="utf-8"))
    assert board["uid"] == f"uptier-{path.stem}"
    assert len(board["panels"]) >= 5
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] in ("prometheus", "loki")
            variables = set(re.findall(r"\$(?!__)(\w+)", target["expr"]))
            assert variables <= {variable["name"] for variable in board["templating"]["list"]}


def test_dashboards_are_what_the_script_makes():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "dashboards.py"), "--check"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout


def test_every_dashboard_is_installed():
    text = (ROOT / "roles" / "grafana" / "vars" / "main.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"dashboards/(\w+)\.json", text)) == {path.stem for path in DASHBOARDS.glob("*.json")}


def test_loki_stores_where_it_did_whatever_its_defaults_are(rendered):
    """A version after 3.7 read the other kind of clients by default, ignored ruler.storage, and its compactor wrote to /index."""
    config = yaml.safe_load(rendered("loki", "config.yml"))
    storage = config["storage_config"]
    assert storage["use_thanos_objstore"] is False
    assert storage["filesystem"]["directory"] == storage["object_store"]["filesystem"]["dir"] == "/var/lib/loki/chunks"
    assert config["common"]["storage"]["filesystem"]["chunks_directory"] == storage["filesystem"]["directory"]
    assert config["ruler"]["storage"] == {"type": "local", "local": {"directory": "/etc/loki/rules"}}
    assert config["ruler_storage"] == {"backend": "local", "local": {"directory": "/etc/loki/rules"}}
    written = [
        config["compactor"]["working_directory"],
        config["ingester"]["wal"]["dir"],
        config["ruler"]["rule_path"],
        storage["tsdb_shipper"]["active_index_directory"],
        storage["tsdb_shipper"]["cache_location"],
    ]
    assert [path for path in written if not path.startswith("/var/lib/loki/")] == []


def test_loki_keeps_audit_logs_longer_and_asks_for_certificates(rendered):
    config = yaml.safe_load(rendered("loki", "config.yml"))
    assert config["server"]["http_tls_config"]["client_auth_type"] == "RequireAndVerifyClientCert"
    assert config["server"]["tls_min_version"] == "VersionTLS13"
    assert config["server"]["grpc_listen_address"] == "127.0.0.1"
    assert config["compactor"]["retention_enabled"] is True
    assert config["compactor"]["delete_request_store"] == "filesystem"
    assert config["limits_config"]["retention_period"] == "720h"
    assert config["limits_config"]["retention_stream"] == [{"selector": '{audit="true"}', "priority": 1, "period": "8760h"}]
    assert config["schema_config"]["configs"][0]["store"] == "tsdb"
    assert config["ruler"]["alertmanager_url"].startswith("https://")
    rules = yaml.safe_load(rendered("loki", "rules.yml"))
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for group in rules["groups"] for rule in group["rules"])


def test_alloy_components_lead_to_each_other(rendered):
    text = rendered("alloy", "config.alloy")
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    for left, right in ("{}", "[]", "()"):
        assert bare.count(left) == bare.count(right)
    defined = {f"{kind}.{name}" for kind, name in re.findall(r'^([a-z_.]+) "(\w+)" \{', text, re.MULTILINE)}
    used = set(re.findall(r"\b((?:loki|local)\.[a-z_.]+\.\w+)\.(?:receiver|rules|targets)", text))
    assert used
    assert used <= defined
    assert all(url.startswith("https://") for url in re.findall(r'url = "([^"]+)"', text))
    assert 'min_version = "TLS13"' in text
    expressions = [json.loads(f'"{found}"') for found in re.findall(r'expression = "((?:[^"\\]|\\.)*)"', text)]
    line = "login token=abcd1234 failed"
    assert re.sub(expressions[0], lambda match: match[0].replace(match[1], "[redacted]"), line) == "login token=[redacted] failed"


@pytest.mark.parametrize(
    ("role", "names"), [("grafana", ["grafana-server.service"]), ("loki", ["loki.service"]), ("alloy", ["alloy.service"])]
)
def test_units_have_what_systemd_reads(rendered, role, names):
    for name in [*names, "platform.conf"]:
        text = rendered(role, name)
        sections = re.findall(r"^\[(\w+)\]$", text, re.MULTILINE)
        assert "Service" in sections
        assert all("=" in line for line in text.splitlines() if line and not line.startswith(("#", "[")))


@pytest.mark.parametrize("role", ["grafana", "loki", "alloy"])
def test_a_new_version_of_the_package_restarts_the_daemon(role):
    """apt starts and restarts nothing here, so the role has to see that the program behind a running daemon changed."""
    record = f"__{role}_package_record"
    values = yaml.safe_load((ROOT / "roles" / role / "vars" / "main.yml").read_text(encoding="utf-8"))
    (configure,) = yaml.safe_load((ROOT / "roles" / role / "tasks" / "configure.yml").read_text(encoding="utf-8"))
    assert values[record] == f"/var/lib/dpkg/info/{role}.md5sums"
    assert f"{{{{ {record} }}}}" in configure["uptier.platform.config_files"]["watch"]
    assert f"{{{{ {record} }}}}" in values[f"__{role}_unit"]["restart_files"]
    assert configure["notify"]
