# SPDX-License-Identifier: GPL-3.0-or-later
"""What the platform does for its users and keeps for its owner."""

from __future__ import annotations

import json
import re

from harness.platform import Platform
from harness.web import User


def test_page_answers_over_https(user: User) -> None:
    answer = user.get("/")
    assert answer.status == 200
    assert b"<html" in answer.body.lower()
    assert "max-age=" in answer.headers["strict-transport-security"]


def test_plain_http_only_redirects(platform: Platform, user: User) -> None:
    for gateway in platform.group("gateway"):
        text = platform.output(
            "mon1", f"curl -s -o /dev/null -w '%{{http_code}} %{{redirect_url}}' -H 'Host: demo.test' http://{gateway}.internal/"
        )
        assert re.match(r"30[18] https://demo\.test", text), (gateway, text)


def test_status_names_the_nodes_behind_an_answer(platform: Platform, user: User) -> None:
    status = user.get("/api/status").json()
    text = json.dumps(status)
    leader = platform.leader()
    assert leader
    assert leader in text or platform.address(leader) in text, f"the leader {leader} is not in {text}"


def test_all_application_hosts_answer(platform: Platform, user: User) -> None:
    seen = " ".join(user.get("/api/status").body.decode() for dummy in range(30))
    assert [host for host in platform.group("app") if host not in seen] == []


def test_a_note_is_written_and_read_back(user: User) -> None:
    made = user.request("POST", "/api/notes", {"body": "from the tier test"})
    assert made.status in (200, 201), made.body
    listing = user.get("/api/notes")
    assert listing.status == 200
    assert "from the tier test" in listing.body.decode()


def test_cache_hits_the_second_time(user: User) -> None:
    first, second = user.get("/api/items/77"), user.get("/api/items/77")
    assert first.status == second.status == 200
    assert second.headers["x-cache"].upper() == "HIT"


def test_database_is_replicated_synchronously(platform: Platform) -> None:
    assert platform.database_healthy(), platform.members()
    leader = platform.leader()
    assert leader
    assert platform.sql(leader, "select sync_state from pg_stat_replication") in ("sync", "quorum")
    assert platform.sql(leader, "show data_checksums") == "on"
    assert platform.sql(leader, "show ssl") == "on"


def test_database_accounts_have_least_privilege(platform: Platform) -> None:
    leader = platform.leader()
    assert leader
    rows = platform.sql(leader, "select rolname from pg_roles where rolsuper and rolname in ('sample_owner', 'sample', 'sample_ro')")
    assert rows == ""
    hba = platform.sql(leader, "select count(*) from pg_hba_file_rules where auth_method in ('trust', 'md5', 'password')")
    assert hba == "0"
    denied = platform.run(
        leader,
        f"cd /tmp && runuser -u postgres -- psql -X -q -p {platform.port(leader, 'postgresql')} -d sample"
        ' -c "set role sample_ro; create table public.no (id int)"',
        check=False,
    )
    assert denied.returncode != 0
    assert "permission denied" in denied.stderr


def test_cache_is_sharded_and_replicas_live_elsewhere(platform: Platform) -> None:
    host = platform.group("redis")[0]
    info = platform.redis(host, "cluster", "info")
    assert "cluster_state:ok" in info
    assert "cluster_slots_ok:16384" in info
    assert "cluster_size:3" in info
    nodes = [line.split() for line in platform.redis(host, "cluster", "nodes").splitlines()]
    where = {fields[0]: fields[1].split(":")[0] for fields in nodes}
    replicas = [fields for fields in nodes if "slave" in fields[2]]
    assert len(replicas) == 3
    assert [fields for fields in replicas if where[fields[3]] == where[fields[0]]] == []


def test_etcd_has_three_members(platform: Platform) -> None:
    host = platform.group("etcd")[0]
    text = platform.output(
        host,
        "ETCDCTL_API=3 etcdctl --cacert /etc/uptier/pki/ca.crt --cert /etc/uptier/pki/host.crt --key /etc/uptier/pki/host.key"
        f" --endpoints https://{host}.internal:{platform.port(host, 'etcd')} endpoint health --cluster -w json",
    )
    assert [entry["health"] for entry in json.loads(text)] == [True] * 3


def test_first_full_backup_was_taken(platform: Platform) -> None:
    backup = platform.group("backup")[0]
    text = platform.output(
        backup, "runuser -u pgbackrest -- pgbackrest info --output=json 2>/dev/null || runuser -u postgres -- pgbackrest info --output=json"
    )
    stanza = json.loads(text)[0]
    assert stanza["status"]["code"] == 0, stanza["status"]
    assert [entry["type"] for entry in stanza["backup"]][:1] == ["full"]
    assert stanza["cipher"] == "aes-256-cbc"


def test_wal_is_archived_within_a_minute(platform: Platform) -> None:
    leader = platform.leader()
    assert leader
    assert platform.sql(leader, "show archive_timeout") == "1min"
    assert platform.sql(leader, "select failed_count < 5 or last_archived_time > last_failed_time from pg_stat_archiver") == "t"


def test_no_unit_has_failed(platform: Platform) -> None:
    assert {host: units for host in platform.hosts if (units := platform.failed_units(host))} == {}
