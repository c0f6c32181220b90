# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of pg_schema: the calendar, partitions ahead, retention, names. test_pg_schema_server.py has real servers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema import (
    FIRST,
    INTERVALS,
    LAST,
    Index,
    IndexSpec,
    PartitionSpec,
    Relation,
    ScriptSpec,
    build_relations,
    coverage,
    parse_bounds,
    parse_now,
    partition_name,
    plan_index,
    plan_partitions,
    plan_scripts,
    ranges,
    shift,
    short,
    start_of,
    write_bound,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2025, 10, 15, 12, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
SAME = {"columns": ["a"]}
INTERVAL = st.sampled_from(INTERVALS)


def spec(**more: Any) -> PartitionSpec:
    return PartitionSpec.read({"database": "d", "table": "t", "interval": "month", **more})


def bound(low: datetime, high: datetime) -> str:
    kind = "timestamp with time zone"
    return f"FOR VALUES FROM ({write_bound(low, kind)}) TO ({write_bound(high, kind)})"


def parent(*children: Relation, **more: Any) -> Relation:
    shape = {"kind": "p", "strategy": "r", "key_columns": 1, "key_type": "timestamp with time zone", **more}
    return Relation(1, "public", "t", children=children, **shape)


def child(name: str, low: str, high: str, **more: Any) -> Relation:
    return Relation(2, "public", name, bound=f"FOR VALUES FROM ('{low}') TO ('{high}')", **more)


def grown(root: Relation, wanted: PartitionSpec, now: datetime) -> Relation:
    """Return the table as it is after its plan was carried out, as far as partitions are concerned."""
    plan = plan_partitions(wanted, root, (), (), now)
    assert not plan.problems
    children = list(root.children)
    for step in plan.steps:
        last = step.statements[-1]
        name = last.split('"')[7] if "PARTITION" in last else last.split('"')[3]
        children = [part for part in children if part.name != name]
        if "ATTACH" in last:
            children.append(Relation(len(children) + 10, "public", name, bound=last.split(f'"{name}" ')[1]))
    return replace(root, children=tuple(children))


# --- the calendar --------------------------------------------------------------------------------------------------


@given(INTERVAL, MOMENTS)
def test_every_moment_lies_in_its_interval(interval: str, moment: datetime) -> None:
    start = start_of(interval, moment)
    assert start <= moment < shift(interval, start, 1)
    assert start_of(interval, start) == start


@given(INTERVAL, MOMENTS, st.integers(-60, 60), st.integers(-60, 60))
def test_steps_add_up(interval: str, moment: datetime, one: int, two: int) -> None:
    start = start_of(interval, moment)
    assert shift(interval, shift(interval, start, one), two) == shift(interval, start, one + two)
    assert start_of(interval, shift(interval, start, one)) == shift(interval, start, one)


@given(INTERVAL, MOMENTS, st.integers(1, 60))
def test_intervals_have_names_of_their_own_in_order(interval: str, moment: datetime, count: int) -> None:
    start = start_of(interval, moment)
    assert partition_name("t", interval, start) < partition_name("t", interval, shift(interval, start, count))


@pytest.mark.parametrize(
    ("interval", "moment", "name"),
    [
        ("month", "2025-10-15", "transactions_2025_10"),
        ("month", "2025-12-31T23:59:59.999999", "transactions_2025_12"),
        ("month", "2026-01-01T00:30:00+02:00", "transactions_2025_12"),
        ("day", "2024-02-29", "transactions_2024_02_29"),
        ("week", "2024-12-30", "transactions_2025_w01"),
        ("week", "2027-01-03", "transactions_2026_w53"),
        ("year", "2025-10-15", "transactions_2025"),
    ],
)
def test_names(interval: str, moment: str, name: str) -> None:
    assert partition_name("transactions", interval, start_of(interval, parse_now(moment))) == name


def test_now_may_have_an_offset() -> None:
    assert parse_now("2025-10-15") == datetime(2025, 10, 15, tzinfo=UTC)
    assert parse_now("2025-10-15T00:00+02:00").utcoffset() == timedelta(hours=2)
    assert abs(parse_now("") - datetime.now(UTC)) < timedelta(seconds=5)
    with pytest.raises(ValueError, match="now is yesterday; give a date"):
        parse_now("yesterday")


# --- bounds and names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["date", "timestamp without time zone", "timestamp with time zone"])
@given(low=MOMENTS, high=MOMENTS)
def test_bounds_are_read_as_they_were_written(kind: str, low: datetime, high: datetime) -> None:
    low, high = start_of("day", low), start_of("day", high)
    assert parse_bounds(f"FOR VALUES FROM ({write_bound(low, kind)}) TO ({write_bound(high, kind)})") == (low, high)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("DEFAULT", None),
        ("FOR VALUES FROM (MINVALUE) TO (MAXVALUE)", (FIRST, LAST)),
        ("FOR VALUES FROM ('-infinity') TO ('infinity')", (FIRST, LAST)),
        ("FOR VALUES FROM ('0044-03-15 BC') TO ('12000-01-01')", (FIRST, LAST)),
        ("FOR VALUES FROM ('2025-10-01 02:30:00.5+02:30') TO (MAXVALUE)", (datetime(2025, 10, 1, 0, 0, 0, 500000, tzinfo=UTC), LAST)),
    ],
)
def test_bounds_of_all_kinds(text: str, expected: Any) -> None:
    assert parse_bounds(text) == expected


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80),
    st.sampled_from(["", "_2025_10", "_uptier_new"]),
)
def test_long_names_are_shortened_and_stay_different(name: str, suffix: str) -> None:
    found = short(name, suffix)
    assert len(found.encode()) <= 63
    assert found.endswith(suffix)
    assert found != short(name + "x", suffix)


# --- partitions ahead and retention --------------------------------------------------------------------------------


@given(INTERVAL, MOMENTS, st.integers(1, 12), st.booleans())
def test_partitions_reach_as_far_as_wanted_and_then_there_is_nothing_to_do(
    interval: str, now: datetime, premake: int, default: bool
) -> None:
    wanted = spec(interval=interval, premake=premake, default=default)
    root = grown(parent(), wanted, now)
    assert len(root.children) == premake + 1 + default
    assert coverage(wanted, root, now).ahead == premake
    assert plan_partitions(wanted, root, (), (), now).steps == []


@given(INTERVAL, MOMENTS, st.integers(1, 6), st.integers(1, 6), st.integers(1, 40))
def test_over_time_the_window_moves_without_gaps_or_overlaps(
    interval: str, now: datetime, premake: int, retention: int, count: int
) -> None:
    wanted, root = spec(interval=interval, premake=premake, retention=retention), parent()
    start = start_of(interval, now)
    for number in range(count):
        root = grown(root, wanted, shift(interval, start, number))
    found = ranges(root)
    assert all(one[1] == two[0] for one, two in zip(found, found[1:], strict=False))
    assert len(found) == min(count - 1, retention) + 1 + premake


@given(INTERVAL, MOMENTS, st.integers(1, 12))
def test_retention_never_takes_what_is_kept(interval: str, now: datetime, retention: int) -> None:
    start = start_of(interval, now)
    parts = [
        Relation(9, "public", f"p{number}", bound=bound(shift(interval, start, number), shift(interval, start, number + 1)))
        for number in range(-20, 2)
    ]
    wanted = spec(interval=interval, premake=1, retention=retention)
    steps = [str(step) for step in plan_partitions(wanted, parent(*parts), (), (), now).steps]
    assert [f'"p{number}"' in "".join(steps) for number in range(-20, 2)] == [number < -retention for number in range(-20, 2)]


@given(MOMENTS)
def test_a_run_late_by_years_makes_the_present_first(now: datetime) -> None:
    root = parent(child("old", "1970-01-01", "1970-02-01"))
    steps = plan_partitions(spec(premake=1), root, (), (), now).steps
    assert partition_name("t", "month", now) in str(steps[0])


def test_without_retention_nothing_is_taken() -> None:
    root = parent(child("old", "1999-01-01", "1999-02-01"))
    assert not any("DETACH" in str(step) for step in plan_partitions(spec(), root, (), (), NOW).steps)


def test_what_has_no_beginning_is_kept() -> None:
    root = parent(Relation(2, "public", "old", bound="FOR VALUES FROM (MINVALUE) TO ('2020-01-01 00:00:00+00')"))
    assert not any("DETACH" in str(step) for step in plan_partitions(spec(retention=1), root, (), (), NOW).steps)


def test_a_gap_is_no_coverage() -> None:
    root = parent(child("a", "2025-10-01", "2025-11-01"), child("c", "2025-12-01", "2026-01-01"))
    assert coverage(spec(), root, NOW).until == datetime(2025, 11, 1, tzinfo=UTC)
    assert coverage(spec(), parent(), NOW).until == datetime(2025, 10, 1, tzinfo=UTC)
    assert coverage(spec(), parent(Relation(2, "s", "x", bound="FOR VALUES FROM (MINVALUE) TO (MAXVALUE)")), NOW).until == LAST


def test_what_detaches_right_now_covers_nothing() -> None:
    root = parent(child("a", "2025-10-01", "2025-11-01", detaching=True))
    assert coverage(spec(), root, NOW).until < NOW


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"premake": 0}, "premake of the partitions of public.t in d is 0; give 1 or more"),
        ({"retention": -1}, "retention .* is -1; give 0 or more"),
        ({"modulus": 4}, "need an interval .* or a modulus"),
        ({"interval": None}, "need an interval .* or a modulus"),
    ],
)
def test_declarations_that_make_no_sense(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec(**more)


# --- indexes -------------------------------------------------------------------------------------------------------


def wanted_index(**more: Any) -> IndexSpec:
    return IndexSpec.read({"database": "d", "table": "t", "name": "i", "columns": ["a"], **more})


def verbs(spec: IndexSpec, root: Relation | None, signature: dict[str, Any] | None = None) -> list[str]:
    """Return the plan as words: what is done with which index."""
    found = []
    plan = plan_index(spec, root, signature or SAME, [("public", index.name) for index in (root.indexes if root else ())])
    assert not plan.problems
    for step in plan.steps:
        names = [part for part in str(step).split('"')[1::2] if part not in ("public", "t", "a")]
        found.append(f"{str(step).split()[0].lower()} {' '.join(names)}")
    return found


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], ["create i"]),
        ([Index(1, "i", signature=SAME)], []),
        ([Index(1, "i", signature=SAME), Index(2, "i_uptier_new", valid=False)], ["drop i_uptier_new"]),
        ([Index(1, "i", signature=SAME), Index(2, "i_uptier_old")], ["drop i_uptier_old"]),
        ([Index(1, "i", valid=False, signature=SAME)], ["drop i", "create i"]),
        ([Index(1, "i", valid=False)], ["drop i", "create i"]),
        ([Index(1, "i")], ["create i_uptier_new", "alter i i_uptier_old i_uptier_new i", "drop i_uptier_old"]),
        ([Index(1, "i"), Index(2, "i_uptier_new", signature=SAME)], ["alter i i_uptier_old i_uptier_new i", "drop i_uptier_old"]),
        ([Index(2, "i_uptier_new", signature=SAME)], ["alter i_uptier_new i"]),
        ([Index(2, "i_uptier_new", valid=False, signature=SAME)], ["drop i_uptier_new", "create i"]),
    ],
)
def test_from_every_state_there_is_a_way(there: list[Index], expected: list[str]) -> None:
    assert verbs(wanted_index(), Relation(1, "public", "t", indexes=tuple(there))) == expected


def test_what_others_build_is_waited_for() -> None:
    root = Relation(1, "public", "t", indexes=(Index(1, "i", valid=False, building=True),))
    assert plan_index(wanted_index(), root, SAME, ()).busy


def test_a_view_is_skipped_with_a_notice() -> None:
    assert plan_index(wanted_index(), Relation(1, "public", "t", kind="v"), {}, ()).notices
    assert not plan_index(wanted_index(state="absent"), None, {}, ()).notices


def test_a_foreign_partition_is_left_out() -> None:
    root = parent(Relation(2, "public", "f", kind="f"), Relation(3, "public", "p"))
    plan = plan_index(wanted_index(), root, SAME, ())
    assert "foreign table" in plan.notices[0]
    assert len(plan.steps) == 3


def test_definitions() -> None:
    text = wanted_index(columns=["A b", "c"], unique=True, method="gist", include=["d"], where="x > 1").definition("n", "t", True)
    assert text == 'CREATE UNIQUE INDEX CONCURRENTLY "n" ON t USING gist ("A b", "c") INCLUDE ("d") WHERE x > 1'


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"columns": []}, "takes columns or expressions; none of them"),
        ({"expressions": ["b"]}, "takes columns or expressions; both of them"),
        ({"name": "x" * 64}, "more than 63 bytes"),
    ],
)
def test_indexes_that_make_no_sense(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wanted_index(**more)


# --- scripts and catalogues ----------------------------------------------------------------------------------------


def test_scripts_run_when_their_wording_is_new() -> None:
    one, two = ScriptSpec("d", "one", "SELECT 1"), ScriptSpec.read({"database": "d", "name": "two", "sql": "SELECT 2", "role": "r"})
    assert plan_scripts([one, two], {"one": one.checksum, "two": "other"}) == [two]
    assert replace(two, role="s").checksum != two.checksum


def test_catalogues_become_a_tree() -> None:
    shape = {"schema": "s", "kind": "p", "owner": "o", "bound": "", "detaching": False, "marked": False, "strategy": "r"}
    rows = [
        {"oid": 1, "parent": 0, "level": 0, "name": "t", "key_columns": 1, "key_type": "date", **shape},
        {"oid": 2, "parent": 1, "level": 1, "name": "b", "key_columns": 1, "key_type": "date", **shape},
        {"oid": 3, "parent": 2, "level": 2, "name": "c", "key_columns": 0, "key_type": "", **shape},
        {"oid": 4, "parent": 1, "level": 1, "name": "a", "key_columns": 0, "key_type": "", **shape},
    ]
    entry = {"oid": 9, "name": "i", "valid": True, "building": False, "constraint": False, "parent": 0, "signature": {}}
    found = build_relations(rows, [{"table": 3, **entry}])["s", "t"]
    assert [part.name for part in found.children] == ["a", "b"]
    assert found.children[1].children[0].indexes[0].name == "i"


def test_the_offset_of_the_controller_does_not_matter() -> None:
    moment = datetime(2025, 11, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert start_of("month", moment) == datetime(2025, 10, 1, tzinfo=UTC)
