# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make bench-postgresql` counts and prints. Nothing is timed here."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import bench_postgresql as bench  # noqa: E402 - the path has to be set first
from support import Problem  # noqa: E402

DATA = yaml.safe_load(bench.DATA.read_text(encoding="utf-8"))
PRINTED = """pgbench (15.14 (Debian 15.14-0+deb12u1))
progress: 1.0 s, 100.0 tps, lat 0.551 ms stddev 0.1, 0 failed
progress: 2.0 s, 200.0 tps, lat 0.551 ms stddev 0.1, 0 failed
progress: 3.0 s, 1000.5 tps, lat 0.551 ms stddev 0.1, 0 failed
progress: 4.0 s, 1001.5 tps, lat 0.551 ms stddev 0.1, 0 failed
progress: 5.0 s, 1003.0 tps, lat 0.551 ms stddev 0.1, 0 failed
progress: 6.0 s, 2000.0 tps, lat 0.551 ms stddev 0.1, 0 failed
tps = 884.166667 (without initial connection time)
"""


def test_the_first_seconds_and_the_last_are_not_counted() -> None:
    assert bench.transactions(PRINTED, 6) == pytest.approx((1000.5 + 1001.5 + 1003.0) / 3)


@pytest.mark.parametrize(
    "printed", ["pgbench: error: connection failed\n", "progress: 3.0 s, 0.0 tps, lat 0.000 ms\npgbench: error: connection failed\n"]
)
def test_output_without_transactions_is_quoted(printed: str) -> None:
    with pytest.raises(Problem, match=r"no transactions a second:\n(?s:.*)pgbench: error: connection failed"):
        bench.transactions(printed, 6)


@pytest.mark.parametrize(
    ("values", "text"),
    [([1.0], "1.00 (1.00..1.00)"), ([0.9, 1.2, 1.0], "1.00 (0.90..1.20)"), ([0.8, 1.0, 1.1, 1.3], "1.05 (0.80..1.30)")],
)
def test_spread(values: list[float], text: str) -> None:
    assert str(bench.Spread.of(values)) == text


def test_everybody_begins_once_and_nobody_always_follows_the_same() -> None:
    names = ["a", "b", "c", "d"]
    rounds = [bench.order(names, number) for number in range(4)]
    assert rounds == [["a", "b", "c", "d"], ["b", "a", "d", "c"], ["c", "d", "a", "b"], ["d", "c", "b", "a"]]
    assert all(sorted(turn) == names for turn in rounds)


def test_a_ratio_is_of_the_same_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are asked at once: neither answers before the other was asked."""
    asked = threading.Barrier(2, timeout=5)
    base, other = bench.Place([], ""), bench.Place([], "")
    monkeypatch.setattr(bench.Place, "sql", lambda *words: None)

    def measure(server: bench.Place, scenario: dict[str, object], seconds: float) -> float:
        asked.wait()
        return 100.0 if server is base else 110.0

    monkeypatch.setattr(bench, "measure", measure)
    assert bench.side_by_side(base, other, {}, 6) == pytest.approx(1.1)


def test_report() -> None:
    results = {("reads", "default"): [1.01, 0.99, 1.0], ("reads", "uptier"): [1.1, 1.0, 1.25], ("reads", "other"): [0.9, 1.0, 0.5]}
    assert bench.report(results, ["reads"], ["default", "uptier", "other"]) == (
        "| pgbench | default | uptier | other |\n|---|---|---|---|\n| reads | 1.00 (0.99..1.01) | 1.10 (1.00..1.25) | 0.90 (0.50..1.00) |"
    )


def test_our_settings_are_those_of_the_role() -> None:
    fixed = {
        "ssl": "on",
        "ssl_ca_file": "{{ ca }}",
        "timezone": "UTC",
        "max_connections": "{{ many }}",
        "wal_level": "logical",
        "jit": "on",
    }
    assert bench.our_settings(fixed, {"jit": "off"}, {"max_connections": 200, "unused": 1}) == {
        "max_connections": 200,
        "wal_level": "logical",
        "jit": "off",
    }


def test_a_setting_that_the_role_fills_in_is_not_guessed() -> None:
    with pytest.raises(Problem, match="the role fills in max_connections"):
        bench.our_settings({"max_connections": "{{ many }}"}, {}, {})


def test_all_profiles_can_be_written() -> None:
    profiles = bench.all_profiles(DATA)
    assert list(profiles)[0] == bench.BASE
    assert profiles[bench.BASE] == {}
    assert profiles[bench.OURS]["shared_buffers"] == "256MB"
    assert profiles[bench.OURS]["shared_preload_libraries"] == "pg_stat_statements"
    assert not [name for settings in profiles.values() for name, value in settings.items() if "{{" in str(value) or isinstance(value, bool)]


def test_settings_are_written_as_postgresql_reads_them() -> None:
    assert bench.configuration({"work_mem": "4MB", "log_line_prefix": "it's %m "}) == "work_mem = '4MB'\nlog_line_prefix = 'it''s %m '\n"


def test_scenarios_have_names_of_their_own_and_fit_postgresqls_own_connections() -> None:
    titles = [scenario["title"] for scenario in DATA["scenarios"]]
    assert len(set(titles)) == len(titles)
    assert all(scenario["clients"] <= 95 for scenario in DATA["scenarios"])


def test_the_time_is_bounded() -> None:
    for plan in DATA["runs"].values():
        least = plan["rounds"] * len(DATA["profiles"]) * len(DATA["scenarios"]) * plan["seconds"]
        assert plan["seconds"] > bench.WARMING + bench.ENDING
        assert least < plan["minutes"] * 60
