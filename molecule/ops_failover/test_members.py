# SPDX-License-Identifier: GPL-3.0-or-later
"""A third database host joins the running platform, all are upgraded and resized, and it leaves again, while clients go on.

The run that it joins with changes the applications' passwords too.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml
from harness import engine
from harness.patroni import change
from harness.platform import ROOT, Platform, wait
from harness.probes import Probe, missing_rows, prepare_writes
from harness.web import User, Watcher

NEW = "db3"
PASSWORDS = ["vault_postgresql_user_passwords", "vault_redis_user_passwords"]
PACKAGES = ["postgresql-15", "postgresql-client-15"]


@pytest.fixture(scope="module")
def wider(platform: Platform) -> Iterator[Platform]:
    """The same platform with one line more in its inventory and a bare host for it. The applications have other passwords from now on."""
    known = platform.hostvars["app1"]
    changed = {kind: {name: f"{value}-2" for name, value in known[kind].items()} for kind in PASSWORDS}
    # Read after vault.yml, which stays as it is.
    (platform.inventory / "group_vars" / "all" / "vault_changed.yml").write_text(yaml.safe_dump(changed), encoding="utf-8")
    platform.read()
    inventory = platform.inventory.with_name(f"{platform.inventory.name}-wider")
    shutil.rmtree(inventory, ignore_errors=True)
    shutil.copytree(platform.inventory, inventory)
    hosts = inventory / "hosts.yml"
    given = yaml.safe_load(hosts.read_text(encoding="utf-8"))
    given["all"]["hosts"][NEW] = {"lab_number": 33, "lab_release": 12}
    given["all"]["children"]["postgresql"]["hosts"][NEW] = None
    hosts.write_text(yaml.safe_dump(given), encoding="utf-8")
    lab = [sys.executable, str(ROOT / "scripts" / "lab.py"), "up", f"--name={platform.lab}", f"--net={platform.net}"]
    subprocess.run([*lab, f"--inventory={inventory}"], check=True, stdout=subprocess.DEVNULL)
    yield Platform(inventory, platform.lab, platform.tier)
    engine.remove(platform.container(NEW))
    shutil.rmtree(inventory)


def test_two_thousand_clients_share_a_few_connections(platform: Platform) -> None:
    """As many as a host's pooler accepts, but for those that the application has open itself."""
    leader = str(platform.leader())
    seen = Probe(platform, "app1", "connections.js", 120, clients=1950).result()
    print(
        f"measured: {seen['open']} clients of one host were open at once, {seen['answered']} were answered, by {seen['processes']} connections"
    )
    assert seen["errors"] == {}
    assert seen["answered"] == 1950
    budget = int(platform.sql(leader, "show max_connections")) // len(platform.group("app"))
    assert seen["processes"] <= budget


def test_a_third_host_joins(platform: Platform, wider: Platform, user: User) -> None:
    prepare_writes(platform)
    leader = platform.leader()
    former = login(platform)
    probe = Probe(platform, "app2", "postgresql.js", 900, interval=100)
    watchers = look(user)
    run = wider.playbook()
    seen = probe.finish()
    assert run.status == 0, run.output[-3000:]
    assert failed(watchers) == {}
    assert login(platform) != former
    wait("three members", wider.database_healthy, 60)
    print(f"measured: a third member: {run.seconds:.0f} s, a client saw errors {seen['errors']}, no write for {seen['gap_seconds']:.2f} s")
    assert wider.leader() == leader
    assert seen["errors"] == {}
    assert missing_rows(platform, seen["acknowledged"]) == []
    # The repository is on another host, so the leader was spared.
    assert "replica has been created using pgbackrest" in wider.output(NEW, "journalctl -u patroni --no-pager")


def login(platform: Platform) -> dict[str, str]:
    """With what the applications of each host log in to the database."""
    show = "grep -h -e ^PGUSER= -e ^REDIS_PASSWORD= /etc/uptier/apps/sample.env"
    return {host: platform.output(host, show) for host in platform.group("app")}


def look(user: User) -> list[Watcher]:
    """People who read from the database, and whose page reads from the cache, through the shared address."""
    # They wait for a slow answer: that it comes is what is looked at, on a machine that is busy with the run.
    patient = User(user.address, user.name, user.authority, timeout=30)
    watchers = [Watcher(patient, path, pause=0.5, limit=1500) for path in ("/api/notes", "/api/health")]
    for watcher in watchers:
        watcher.start()
    return watchers


def failed(watchers: list[Watcher]) -> dict[str, list[str]]:
    for watcher in watchers:
        watcher.finish()
    print(
        f"measured: passwords of database and cache changed: {[watcher.count for watcher in watchers]} requests, "
        f"longest gap {max(watcher.longest_gap for watcher in watchers):.2f} s, {sum(len(watcher.failures) for watcher in watchers)} failed"
    )
    assert all(watcher.count > 50 for watcher in watchers)
    return {watcher.path: watcher.failures for watcher in watchers if watcher.failures}


def test_replicas_answer_reads(wider: Platform) -> None:
    leader = str(wider.leader())
    run = wider.playbook("measure_postgresql_reads", "-e", "pg_reads_seconds=5")
    said = " ".join(run.output.split())
    assert run.status == 0, run.output[-3000:]
    reads = {host: int(count) for host, count in re.findall(r"(db[0-9]) answered ([0-9]+) reads a second; 100 are required", said)}
    print(f"measured: reads a second: {reads}")
    assert set(reads) == set(wider.group("postgresql")) - {leader}
    asked = wider.playbook("measure_postgresql_reads", "-e", "pg_reads_seconds=1", "-e", "pg_reads_minimum=1000000000")
    assert asked.status != 0
    assert "reads a second through 3 application hosts; 1000000000 are required." in " ".join(asked.output.split())


def test_minor_upgrade(wider: Platform) -> None:
    """One member is put back to the release before; the others run the newest one already and are not restarted."""
    versions = wider.output(NEW, "apt-cache madison postgresql-15 | cut -d'|' -f2").split()
    older = " ".join(f"{name}={versions[-1]}" for name in PACKAGES)
    back = "apt-get install -y -qq --allow-downgrades --no-install-recommends"
    wider.run(NEW, f"SYSTEMD_OFFLINE=1 DEBIAN_FRONTEND=noninteractive {back} {older} && patronictl restart main {NEW} --force", timeout=300)
    wait("the older release", lambda: wider.database_healthy() and wider.sql(NEW, "show server_version").split()[0] in versions[-1], 60)
    if versions[0] == versions[-1]:
        print("not verified here: the upgrade to a newer minor release (the package sources have only one)")
    before = starts(wider)
    run = wider.playbook("upgrade_postgresql_minor")
    assert run.status == 0, run.output[-3000:]
    assert wider.database_healthy()
    after = starts(wider)
    assert {host for host in after if after[host] != before[host]} <= {NEW}
    assert wider.sql(NEW, "show server_version").split()[0] in versions[0]
    assert len({wider.sql(host, "show server_version") for host in wider.group("postgresql")}) == 1
    again = wider.playbook("upgrade_postgresql_minor")
    assert again.status == 0, again.output[-3000:]
    assert again.changed() == {}, again.changed_tasks()
    assert starts(wider) == after


def starts(platform: Platform) -> dict[str, str]:
    return {host: platform.sql(host, "select pg_postmaster_start_time()") for host in platform.group("postgresql")}


def test_hosts_with_more_memory(wider: Platform) -> None:
    leader = wider.leader()
    before = buffers(wider)
    probe = Probe(wider, "app2", "postgresql.js", 300, interval=20)
    run = wider.playbook("resize_postgresql", "-e", "platform_tier=growth", "-e", "platform_memory_mb=3072")
    seen = probe.finish()
    assert run.status == 0, run.output[-3000:]
    wait("three members", wider.database_healthy, 60)
    print(f"measured: resized in {run.seconds:.0f} s: a client saw errors {seen['errors']}, no write for {seen['gap_seconds']:.2f} s")
    after = buffers(wider)
    assert all(after[host] > before[host] for host in after), (before, after)
    assert wider.leader() != leader, "the leader was restarted without being relieved"
    assert seen["errors"] == {}
    assert missing_rows(wider, seen["acknowledged"]) == []


def buffers(platform: Platform) -> dict[str, int]:
    statement = "select setting::bigint from pg_settings where name = 'shared_buffers'"
    return {host: int(platform.sql(host, statement)) for host in platform.group("postgresql")}


def test_a_member_leaves(platform: Platform, wider: Platform) -> None:
    unconfirmed = wider.playbook("remove_postgresql_member", "-e", f"pg_member={NEW}")
    assert unconfirmed.status != 0
    assert f"pg_member is {NEW}, pg_confirm is not set; both must be the name of a standby" in " ".join(unconfirmed.output.split())
    leader = wider.leader()
    if leader == NEW:
        moved = wider.playbook("switchover_postgresql", "-e", f"pg_leader={NEW}")
        assert moved.status == 0, moved.output[-3000:]
        leader = wider.leader()
    refused = wider.playbook("remove_postgresql_member", "-e", f"pg_member={leader}", "-e", f"pg_confirm={leader}")
    assert refused.status != 0
    assert f"{leader} leads. Move the leadership away with switchover_postgresql.yml first." in " ".join(refused.output.split())
    assert wider.database_healthy()
    run = wider.playbook("remove_postgresql_member", "-e", f"pg_member={NEW}", "-e", f"pg_confirm={NEW}")
    assert run.status == 0, run.output[-3000:]
    wait("two members", platform.database_healthy, 60)
    after = platform.playbook()
    assert after.status == 0, after.output[-3000:]
    restarted = platform.playbook("restart_postgresql")
    assert restarted.status == 0, restarted.output[-3000:]
    wait("two members", platform.database_healthy, 60)
    assert platform.leader() == leader or restarted.changed()
    # Patroni keeps the slot for half an hour, unless told otherwise, in case the member comes back.
    leader = str(platform.leader())
    change(platform, leader, {"member_slots_ttl": 5})
    slots = f"select count(*) from pg_replication_slots where slot_name = '{NEW}'"
    wait("the slot to go", lambda: platform.sql(leader, slots) == "0", 60)
    change(platform, leader, {"member_slots_ttl": None})
    assert NEW not in platform.output("app1", "cat /etc/haproxy/haproxy.cfg")
