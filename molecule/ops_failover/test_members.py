# SPDX-License-Identifier: GPL-3.0-or-later
"""A third database host joins the running platform, and all are upgraded and resized, while clients go on.

The run that it joins with changes the applications' passwords too. The host stays until test_shrink.py, so that test_rerun.py sees what
all this leaves behind.
"""

from __future__ import annotations

import re
import time

from harness.patroni import change
from harness.platform import Platform, wait
from harness.probes import Probe, missing_rows, prepare_writes
from harness.web import User, Watcher

NEW = "db3"
PACKAGES = ["postgresql-15", "postgresql-client-15"]


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


def test_a_third_host_joins(wider: Platform, user: User) -> None:
    prepare_writes(wider)
    leader = wider.leader()
    former = login(wider)
    probe = Probe(wider, "app2", "postgresql.js", 900, interval=100)
    watchers = look(user)
    run = wider.playbook()
    seen = probe.finish()
    assert run.status == 0, run.output[-3000:]
    assert failed(watchers) == {}
    assert login(wider) != former
    wait("three members", wider.database_healthy, 60)
    print(f"measured: a third member: {run.seconds:.0f} s, a client saw errors {seen['errors']}, no write for {seen['gap_seconds']:.2f} s")
    assert wider.leader() == leader
    assert seen["errors"] == {}
    assert missing_rows(wider, seen["acknowledged"]) == []
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


def test_commits_wait_for_any_standby(wider: Platform) -> None:
    """As in the tier enterprise: a standby dies and nobody waits, then the leader dies and every acknowledged row is there."""
    first = str(wider.leader())
    change(wider, first, {"synchronous_mode": "quorum"})
    try:
        wait("two standbys of which commits wait for any", lambda: waited_for(wider, first) == ["quorum", "quorum"], 60)
        standby = next(host for host in wider.group("postgresql") if host != first)
        with_standby = begun(wider)
        wider.kill(standby)
        time.sleep(8)  # longer than Patroni takes to name another one
        seen = with_standby.finish()
        wider.start(standby)
        print(f"measured: one of two standbys killed, quorum commit: no write for {seen['gap_seconds']:.2f} s, errors {seen['errors']}")
        assert seen["errors"] == {}
        assert seen["gap_seconds"] < 5
        wait("it to stream again", lambda: waited_for(wider, first) == ["quorum", "quorum"], 120)
        with_leader = begun(wider)
        wider.kill(first)
        try:
            wait("another leader", lambda: any(wider.writable(host) for host in wider.group("postgresql") if host != first), 60)
            time.sleep(3)
            seen = with_leader.finish()
        finally:
            wider.start(first)
        print(f"measured: leader killed, quorum commit: no write for {seen['gap_seconds']:.2f} s, {len(seen['acknowledged'])} rows")
        wait("three members", wider.database_healthy, 120)
        assert missing_rows(wider, seen["acknowledged"]) == []
    finally:
        wait("a leader", wider.leader, 60)
        change(wider, str(wider.leader()), {"synchronous_mode": True})
    wait("a named standby", lambda: "sync" in waited_for(wider, str(wider.leader())), 60)


def waited_for(platform: Platform, leader: str) -> list[str]:
    """How commits wait for each standby that streams."""
    return platform.sql(leader, "select sync_state from pg_stat_replication where state = 'streaming'", check=False).split()


def begun(platform: Platform) -> Probe:
    """A client that is connected and writes."""
    probe = Probe(platform, "app2", "postgresql.js", 120)
    time.sleep(4)
    return probe


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
    # They keep it: the tier's next run has to find nothing to do. Pages of 8 KiB; of a host's memory they are more than an eighth.
    wider.give(wider.group("postgresql"), platform_memory_mb=max(before.values()) * 8 // 1024 * 8)
    probe = Probe(wider, "app2", "postgresql.js", 300)
    run = wider.playbook("resize_postgresql", "-e", "platform_tier=growth")
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
