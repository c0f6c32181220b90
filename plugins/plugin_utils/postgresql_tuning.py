# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL's settings from what the host gives it. Pure functions; all sizes in MiB unless their name says otherwise.

The memory is a budget: shared memory, what every connection costs, a sort and a hash table in every connection and every
parallel worker, and the autovacuum workers together stay within it, so that a busy database pushes neither itself nor its
neighbours on the same host into the arms of the kernel. docs/explanation/tuning.md has the reasons and what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

AUTOVACUUM_WORKERS = 3
LEAST_MEMORY = 128
LEAST_WORK_KB = 512
# PostgreSQL's own work_mem; from here on, more memory first allows hash tables twice as much as sorts.
USUAL_WORK_KB = 4096
# What a connection costs besides work_mem and its page tables.
CONNECTION_MB = 1.0
# Each process that has touched all of shared_buffers has 8 bytes of page table for each 4 KiB of it, unless there are huge pages.
PAGE_TABLE_SHARE = 1 / 512
# Kept from the pools: 3 for superusers, up to 10 for metrics, the rest for Patroni, migrations, backups and people.
RESERVED_CONNECTIONS = 20
# Patroni keeps these equal on all members, because a standby must not have less than the leader.
CLUSTER_PARAMETERS = (
    "max_connections",
    "max_locks_per_transaction",
    "max_worker_processes",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_replication_slots",
    "track_commit_timestamp",
    "wal_level",
    "wal_log_hints",
)


class Workload(NamedTuple):
    """What differs with the work that is asked of the server."""

    work_mb: int  # of one sort, at most
    gather: tuple[float, int, int]  # parallel workers of one query: part of the processors, at least, at most
    statistics: int
    jit: str


class Disk(NamedTuple):
    """What the planner and the prefetching should think of the disk."""

    random_page_cost: float
    effective_io_concurrency: int
    maintenance_io_concurrency: int


WORKLOADS = {
    "oltp": Workload(64, (1 / 4, 0, 2), 100, "off"),
    "mixed": Workload(128, (1 / 4, 1, 4), 100, "off"),
    "analytics": Workload(1024, (1 / 2, 1, 8), 500, "on"),
}
DISKS = {
    "hdd": Disk(4.0, 2, 10),
    "ssd": Disk(1.1, 200, 100),
    "nvme": Disk(1.1, 256, 256),
}


class TuningError(ValueError):
    """The host cannot carry what is asked; the message names the values and the fix."""


def clamp(value: float, least: int, most: int) -> int:
    return int(max(least, min(most, value)))


def shared_memory(shared_buffers: float, connections: int) -> float:
    """Return an upper bound of all of PostgreSQL's shared memory: the buffers, their headers, WAL buffers, locks and processes."""
    return shared_buffers * 1.023 + min(shared_buffers / 32, 16) + 8 + connections * 0.09


def connection_cost(shared_buffers: float) -> float:
    """Return what one connection costs before it sorts or hashes anything."""
    return CONNECTION_MB + shared_buffers * PAGE_TABLE_SHARE


def postgresql_settings(
    memory_mb: float,
    cpus: int,
    connections: int,
    workload: str = "oltp",
    disk_mb: int = 20480,
    disk: str = "ssd",
    workers: int = 8,
) -> dict[str, Any]:
    """Return the settings of one host, as they stand in its configuration."""
    memory, cpus, connections, disk_mb, workers = int(memory_mb), max(1, int(cpus)), int(connections), int(disk_mb), int(workers)
    for name, value, known in (("workload", workload, WORKLOADS), ("disk", disk, DISKS)):
        if value not in known:
            raise TuningError(f"Unknown {name} {value!r}: use one of {', '.join(known)}.")
    if memory < LEAST_MEMORY:
        raise TuningError(
            f"{memory} MiB are too little for PostgreSQL, which needs at least {LEAST_MEMORY}. "
            "Give the host more memory, or raise postgresql_memory_share."
        )
    kind, storage = WORKLOADS[workload], DISKS[disk]
    parallel = min(clamp(cpus, 2, 64), max(2, workers))
    # Not rounded before the end, or a MiB more of memory could give less of something.
    shared = memory / 4
    autovacuum = max(8.0, min(512.0, memory * 0.02))
    maintenance = max(16.0, min(2048.0, memory * 0.05))
    left = memory - shared_memory(shared, connections) - AUTOVACUUM_WORKERS * autovacuum - maintenance
    left -= connections * connection_cost(shared)
    each_kb = left * 1024 / (connections + parallel)
    if each_kb < LEAST_WORK_KB:
        raise TuningError(
            f"{connections} connections do not fit into {memory} MiB: {max(0, int(each_kb))} kB of work_mem would be left for each, "
            f"at least {LEAST_WORK_KB} kB are needed. Lower postgresql_max_connections or raise postgresql_memory_share."
        )
    work_kb = int(min(max(each_kb / 2, min(each_kb, USUAL_WORK_KB)), kind.work_mb * 1024))
    part, least, most = kind.gather
    wal = clamp(disk_mb * 0.1, 512, 16384)
    return {
        "shared_buffers": f"{int(shared)}MB",
        "effective_cache_size": f"{memory - int(shared)}MB",
        "work_mem": f"{work_kb}kB",
        "hash_mem_multiplier": int(min(2.0, each_kb / work_kb) * 100) / 100,
        "maintenance_work_mem": f"{int(maintenance)}MB",
        "autovacuum_work_mem": f"{int(autovacuum)}MB",
        "autovacuum_max_workers": AUTOVACUUM_WORKERS,
        "max_parallel_workers": parallel,
        "max_parallel_workers_per_gather": min(clamp(cpus * part, least, most), parallel),
        "max_parallel_maintenance_workers": min(clamp(cpus // 2, 1, 4), parallel),
        "random_page_cost": storage.random_page_cost,
        "effective_io_concurrency": storage.effective_io_concurrency,
        "maintenance_io_concurrency": storage.maintenance_io_concurrency,
        "min_wal_size": f"{wal // 4}MB",
        "max_wal_size": f"{wal}MB",
        "max_slot_wal_keep_size": f"{clamp(disk_mb * 0.15, 1024, 262144)}MB",
        "temp_file_limit": f"{clamp(disk_mb * 0.1, 1024, 262144)}MB",
        "default_statistics_target": kind.statistics,
        "jit": kind.jit,
    }


def postgresql_connections(maximum: int, pooled: int, reserved: int = RESERVED_CONNECTIONS, hosts: int = 1) -> dict[str, int]:
    """Return how the connections of one server are shared out: {maximum, pooled, hosts, each, reserved, free}."""
    maximum, pooled, reserved, hosts = int(maximum), int(pooled), int(reserved), max(1, int(hosts))
    if pooled + reserved > maximum:
        raise TuningError(
            f"The pools may take {pooled} connections and {reserved} are reserved, {pooled + reserved} together, but postgresql_max_connections "
            f"is {maximum}. Raise postgresql_max_connections to {pooled + reserved} or lower pgbouncer_connection_budget to "
            f"{max(0, maximum - reserved)}."
        )
    return {
        "maximum": maximum,
        "pooled": pooled,
        "hosts": hosts,
        "each": pooled // hosts,
        "reserved": reserved,
        "free": maximum - pooled - reserved,
    }


def split_parameters(parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Tell the settings that must be equal on all members (cluster) from those of one host (local)."""
    parts: dict[str, dict[str, Any]] = {"cluster": {}, "local": {}}
    for name, value in parameters.items():
        parts["cluster" if name in CLUSTER_PARAMETERS else "local"][name] = value
    return parts
