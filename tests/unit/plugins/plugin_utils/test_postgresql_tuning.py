# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Settings of PostgreSQL computed from the host's size, and who gets its connections."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils.postgresql_tuning import (
    AUTOVACUUM_WORKERS,
    DISKS,
    RESERVED_CONNECTIONS,
    WORKLOADS,
    TuningError,
    connection_cost,
    postgresql_connections,
    postgresql_settings,
    shared_memory,
    split_parameters,
)
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[4]
TIERS = ROOT / "roles" / "platform" / "vars" / "tiers.yml"
SPEC = ROOT / "roles" / "postgresql" / "meta" / "argument_specs.yml"
COLUMNS = (
    "shared_buffers",
    "effective_cache_size",
    "work_mem",
    "hash_mem_multiplier",
    "maintenance_work_mem",
    "autovacuum_work_mem",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "max_parallel_maintenance_workers",
    "random_page_cost",
    "effective_io_concurrency",
)
# memory, processors, connections, workload, disk, workers -> the columns above. 307 is what the tier startup gives of 1 GiB,
# 98304 what the tier enterprise gives of 128 GiB.
TABLE = [
    ((307, 1, 80, "oltp", "ssd", 8), ("76MB", "231MB", "985kB", 1.0, "16MB", "8MB", 2, 0, 1, 1.1, 200)),
    ((512, 1, 80, "oltp", "ssd", 8), ("128MB", "384MB", "2566kB", 1.0, "25MB", "10MB", 2, 0, 1, 1.1, 200)),
    ((512, 2, 50, "analytics", "hdd", 8), ("128MB", "384MB", "4096kB", 1.18, "25MB", "10MB", 2, 1, 1, 4.0, 2)),
    ((1229, 2, 80, "oltp", "ssd", 8), ("307MB", "922MB", "4096kB", 1.91, "61MB", "24MB", 2, 0, 1, 1.1, 200)),
    ((2867, 2, 200, "oltp", "ssd", 16), ("716MB", "2151MB", "4096kB", 1.6, "143MB", "57MB", 2, 0, 1, 1.1, 200)),
    ((5734, 4, 200, "mixed", "nvme", 16), ("1433MB", "4301MB", "7114kB", 2.0, "286MB", "114MB", 4, 1, 2, 1.1, 256)),
    ((11468, 8, 200, "oltp", "ssd", 16), ("2867MB", "8601MB", "14551kB", 2.0, "573MB", "229MB", 8, 2, 4, 1.1, 200)),
    ((24576, 16, 400, "oltp", "nvme", 32), ("6144MB", "18432MB", "12710kB", 2.0, "1228MB", "491MB", 16, 2, 4, 1.1, 256)),
    ((24576, 16, 400, "analytics", "hdd", 8), ("6144MB", "18432MB", "12959kB", 2.0, "1228MB", "491MB", 8, 8, 4, 4.0, 2)),
    ((98304, 32, 400, "oltp", "nvme", 32), ("24576MB", "73728MB", "59162kB", 2.0, "2048MB", "512MB", 32, 2, 4, 1.1, 256)),
    ((98304, 32, 100, "mixed", "ssd", 32), ("24576MB", "73728MB", "131072kB", 2.0, "2048MB", "512MB", 32, 4, 4, 1.1, 200)),
    ((98304, 32, 50, "analytics", "ssd", 32), ("24576MB", "73728MB", "418967kB", 2.0, "2048MB", "512MB", 32, 8, 4, 1.1, 200)),
    ((131072, 64, 20, "analytics", "nvme", 64), ("32768MB", "98304MB", "564666kB", 2.0, "2048MB", "512MB", 64, 8, 4, 1.1, 256)),
]
HOSTS = {
    "memory_mb": st.integers(128, 1048576),
    "cpus": st.integers(1, 256),
    "connections": st.integers(10, 1000),
    "workload": st.sampled_from(sorted(WORKLOADS)),
    "disk_mb": st.integers(1024, 8388608),
    "disk": st.sampled_from(sorted(DISKS)),
    "workers": st.integers(2, 128),
}


def size(text: str) -> float:
    """Return MiB."""
    return int(text[:-2]) / {"kB": 1024, "MB": 1}[text[-2:]]


def settings_or_none(**host: Any) -> dict[str, Any] | None:
    """Return the settings; nothing for a host that is refused."""
    try:
        return postgresql_settings(**host)
    except TuningError:
        return None


def peak(settings: dict[str, Any], connections: int) -> float:
    """Return what a server takes whose every process sorts, and hashes, at once."""
    shared = size(settings["shared_buffers"])
    processes = connections + settings["max_parallel_workers"]
    return (
        shared_memory(shared, connections)
        + connections * connection_cost(shared)
        + processes * size(settings["work_mem"]) * settings["hash_mem_multiplier"]
        + size(settings["maintenance_work_mem"])
        + AUTOVACUUM_WORKERS * size(settings["autovacuum_work_mem"])
    )


@pytest.mark.parametrize(("host", "expected"), TABLE, ids=lambda value: "-".join(map(str, value)) if len(value) == 6 else "")
def test_known_hosts(host: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    memory, cpus, connections, workload, disk, workers = host
    settings = postgresql_settings(memory, cpus, connections, workload, disk=disk, workers=workers)
    assert {name: settings[name] for name in COLUMNS} == dict(zip(COLUMNS, expected, strict=True))


@given(st.fixed_dictionaries(HOSTS))
def test_memory_is_never_promised_twice(host: dict[str, Any]) -> None:
    settings = settings_or_none(**host)
    if settings:
        assert peak(settings, host["connections"]) <= host["memory_mb"]


@given(st.fixed_dictionaries(HOSTS))
def test_no_part_is_larger_than_the_whole(host: dict[str, Any]) -> None:
    settings = settings_or_none(**host)
    if settings:
        assert size(settings["shared_buffers"]) + size(settings["effective_cache_size"]) == host["memory_mb"]
        assert settings["max_parallel_workers"] <= host["workers"]
        assert settings["max_parallel_workers_per_gather"] <= settings["max_parallel_workers"]
        assert settings["max_parallel_maintenance_workers"] <= settings["max_parallel_workers"]
        assert size(settings["min_wal_size"]) < size(settings["max_wal_size"])
        assert 1.0 <= settings["hash_mem_multiplier"] <= 2.0


MORE = {
    "memory_mb": ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem", "autovacuum_work_mem"),
    "cpus": ("max_parallel_workers", "max_parallel_workers_per_gather", "max_parallel_maintenance_workers"),
    "disk_mb": ("min_wal_size", "max_wal_size", "max_slot_wal_keep_size", "temp_file_limit"),
}


@given(st.fixed_dictionaries(HOSTS), st.sampled_from(sorted(MORE)), st.integers(1, 65536))
def test_more_of_it_never_gives_less(host: dict[str, Any], what: str, more: int) -> None:
    less, larger = settings_or_none(**host), settings_or_none(**{**host, what: host[what] + more})
    if less is None or larger is None:
        return
    for name in MORE[what]:
        before, after = (size(value) if isinstance(value, str) else value for value in (less[name], larger[name]))
        assert after >= before, name


@given(st.fixed_dictionaries(HOSTS), st.integers(1, 500))
def test_more_connections_never_give_each_more(host: dict[str, Any], more: int) -> None:
    few, many = settings_or_none(**host), settings_or_none(**{**host, "connections": host["connections"] + more})
    if many:
        assert few, "a host that carries more connections carries fewer"
        assert size(many["work_mem"]) <= size(few["work_mem"])


def test_wal_slots_and_temporary_files_fit_on_the_disk() -> None:
    settings = postgresql_settings(4096, 4, 100, disk_mb=20480)
    assert sum(size(settings[name]) for name in ("max_wal_size", "max_slot_wal_keep_size", "temp_file_limit")) < 20480 / 2


def test_too_many_connections_are_refused_with_both_ways_out() -> None:
    with pytest.raises(TuningError) as caught:
        postgresql_settings(400, 2, 300)
    assert str(caught.value) == (
        "300 connections do not fit into 400 MiB: 0 kB of work_mem would be left for each, at least 512 kB are needed. "
        "Lower postgresql_max_connections or raise postgresql_memory_share."
    )


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(TuningError, match="at least 128"):
        postgresql_settings(64, 1, 10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workload": "web"}, "Unknown workload 'web': use one of oltp, mixed, analytics."),
        ({"disk": "tape"}, "Unknown disk 'tape': use one of hdd, ssd, nvme."),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_known(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TuningError) as caught:
        postgresql_settings(4096, 1, 10, **wrong)
    assert str(caught.value) == message


def test_the_role_offers_what_the_function_knows() -> None:
    options = yaml.safe_load(SPEC.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    assert set(options["postgresql_workload"]["choices"]) == set(WORKLOADS)
    assert set(options["postgresql_disk"]["choices"]) == set(DISKS)
    assert options["postgresql_reserved_connections"]["default"] == RESERVED_CONNECTIONS


@pytest.mark.parametrize(("tier", "memory"), [("startup", 1024), ("growth", 1024), ("enterprise", 2048)])
def test_every_tier_fits_on_its_smallest_host(tier: str, memory: int) -> None:
    profile = yaml.safe_load(TIERS.read_text(encoding="utf-8"))["platform_tiers"][tier]
    assert postgresql_settings(memory * profile["postgresql_memory_share"], 1, profile["postgresql_max_connections"])


@pytest.mark.parametrize("tier", ["startup", "growth", "enterprise"])
def test_every_tier_has_connections_for_its_pools(tier: str) -> None:
    profile = yaml.safe_load(TIERS.read_text(encoding="utf-8"))["platform_tiers"][tier]
    assert postgresql_connections(profile["postgresql_max_connections"], profile["pgbouncer_connection_budget"])["free"] >= 0


def test_connections_are_shared_out() -> None:
    shares = postgresql_connections(200, 120, 20, 3)
    assert shares == {"maximum": 200, "pooled": 120, "hosts": 3, "each": 40, "reserved": 20, "free": 60}
    assert postgresql_connections(140, 120, 20, 0)["free"] == 0


def test_too_few_connections_for_the_pools_are_refused_with_the_numbers() -> None:
    with pytest.raises(TuningError) as caught:
        postgresql_connections(100, 120, 20, 3)
    assert str(caught.value) == (
        "The pools may take 120 connections and 20 are reserved, 140 together, but postgresql_max_connections is 100. "
        "Raise postgresql_max_connections to 140 or lower pgbouncer_connection_budget to 80."
    )


def test_what_must_be_equal_on_all_members_is_told_apart() -> None:
    parts = split_parameters({"max_connections": 100, "work_mem": "4MB", "wal_level": "logical"})
    assert parts == {"cluster": {"max_connections": 100, "wal_level": "logical"}, "local": {"work_mem": "4MB"}}


# --- what PostgreSQL itself says of it ---

NOBODY = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Return PostgreSQL's programs and an empty cluster, which nobody starts."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("not verified here: postgres (Debian package postgresql) is not installed; role_postgresql does it")
    home = Path("/tmp") / f"uptier-tuning-{os.getpid()}"  # pytest's own directory is closed to other users
    home.mkdir(mode=0o700)
    if NOBODY:
        shutil.chown(home, "nobody")
    command = [found[-1].with_name("initdb"), "-D", home / "data", "--no-sync", "--no-instructions", "-A", "reject"]
    subprocess.run(command, check=True, capture_output=True, cwd="/", **NOBODY)
    yield found[-1], home / "data"
    shutil.rmtree(home)


def ask(scratch: tuple[Path, Path], name: str, settings: dict[str, Any]) -> str:
    """Return a setting that PostgreSQL computes from the others; it refuses those that it does not understand."""
    postgres, data = scratch
    words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    done = subprocess.run([postgres, "-C", name, "-D", data, *words], capture_output=True, text=True, check=False, cwd="/", **NOBODY)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("host", [row[0] for row in TABLE], ids=lambda value: "-".join(map(str, value)))
def test_postgresql_accepts_them_and_takes_no_more_shared_memory_than_foreseen(scratch: tuple[Path, Path], host: tuple[Any, ...]) -> None:
    memory, cpus, connections, workload, disk, workers = host
    settings = postgresql_settings(memory, cpus, connections, workload, disk=disk, workers=workers)
    fixed = {"max_connections": connections, "max_worker_processes": workers, "max_locks_per_transaction": 128}
    taken = int(ask(scratch, "shared_memory_size", {**settings, **fixed}))
    foreseen = shared_memory(size(settings["shared_buffers"]), connections)
    assert foreseen * 0.9 - 8 <= taken <= foreseen + 1  # PostgreSQL rounds up
