# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plan for indexes and partitions of PostgreSQL: what is there, what shall be there, which steps lead from one to the other.

The planner is pure. It never compares texts of definitions: whoever calls it has PostgreSQL describe the wanted index in the
same words as the ones that exist (`Index.signature`, made by `SIGNATURE`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.sql import identifier, literal

LONGEST = 63  # bytes of a name
INTERVALS = ("day", "week", "month", "year")
# Nominal lengths, for "how many intervals are left"; boundaries are computed from the calendar.
SECONDS = {"day": 86400, "week": 7 * 86400, "month": 30.44 * 86400, "year": 365.25 * 86400}
KEY_TYPES = ("date", "timestamp without time zone", "timestamp with time zone")
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)

# What an index is, as PostgreSQL itself says it; i is pg_index, m its access method. Storage parameters are left out: tuning
# one by hand is no reason to build an index anew.
SIGNATURE = """json_build_object('method', m.amname, 'unique', i.indisunique, 'nulls_not_distinct', i.indnullsnotdistinct,
  'keys', i.indnkeyatts, 'columns', (SELECT json_agg(pg_get_indexdef(i.indexrelid, k, false) ORDER BY k)
  FROM generate_series(1, i.indnatts) k), 'classes', i.indclass::text, 'collations', i.indcollation::text,
  'options', i.indoption::text, 'where', pg_get_expr(i.indpred, i.indrelid))"""


@dataclass(frozen=True)
class IndexSpec:
    """An index as the user wants it."""

    database: str
    table: str
    name: str
    schema: str = "public"
    columns: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    method: str = "btree"
    unique: bool = False
    where: str = ""
    include: tuple[str, ...] = ()
    present: bool = True

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> IndexSpec:
        given = {key: value for key, value in entry.items() if value is not None and key != "state"}
        lists = {key: tuple(given.get(key) or ()) for key in ("columns", "expressions", "include")}
        spec = cls(**{**given, **lists, "present": entry.get("state", "present") == "present"})
        if spec.present and bool(spec.columns) == bool(spec.expressions):
            raise ValueError(f"The {spec.label} takes columns or expressions; {'both' if spec.columns else 'none'} of them are given.")
        if len(spec.name.encode()) > LONGEST:
            raise ValueError(f"The name {spec.name} has more than {LONGEST} bytes, and PostgreSQL would cut it. Choose a shorter one.")
        return spec

    @property
    def label(self) -> str:
        return f"index {self.name} of {self.schema}.{self.table} in {self.database}"

    def definition(self, name: str, target: str, concurrently: bool) -> str:
        """Return CREATE INDEX; `target` is the quoted table, with ONLY in front where its partitions get their own."""
        keys = ", ".join(self.expressions or map(identifier, self.columns))
        words = ["CREATE", "UNIQUE" if self.unique else "", "INDEX", "CONCURRENTLY" if concurrently else "", identifier(name)]
        words += ["ON", target, "USING", self.method, f"({keys})"]
        words += [f"INCLUDE ({', '.join(map(identifier, self.include))})"] if self.include else []
        words += [f"WHERE {self.where}"] if self.where else []
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class PartitionSpec:
    """Partitions as the user wants them: by time (`interval`) or by hash (`modulus`)."""

    database: str
    table: str
    schema: str = "public"
    interval: str = ""
    premake: int = 3
    retention: int = 0
    expire: str = "detach"
    default: bool = False
    modulus: int = 0

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> PartitionSpec:
        spec = cls(**{key: value for key, value in entry.items() if value is not None})
        for name, value, least in (("premake", spec.premake, 1), ("retention", spec.retention, 0), ("modulus", spec.modulus, 0)):
            if value < least:
                raise ValueError(f"{name} of the {spec.label} is {value}; give {least} or more.")
        if bool(spec.interval) == bool(spec.modulus):
            raise ValueError(f"The {spec.label} need an interval (partitions by time) or a modulus of 1 or more (by hash), and not both.")
        return spec

    @property
    def label(self) -> str:
        return f"partitions of {self.schema}.{self.table} in {self.database}"


@dataclass(frozen=True)
class Index:
    """An index that exists. `parent` is the index of which it is a part; an index that a session builds now is `building`."""

    oid: int
    name: str
    valid: bool = True
    building: bool = False
    constraint: bool = False
    parent: int = 0
    signature: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Relation:
    """A table that exists, with the partitions below it. `kind` is that of pg_class, `key_*` describe how it is partitioned."""

    oid: int
    schema: str
    name: str
    kind: str = "r"
    owner: str = "postgres"
    bound: str = ""
    detaching: bool = False
    marked: bool = False
    strategy: str = ""
    key_columns: int = 0
    key_type: str = ""
    indexes: tuple[Index, ...] = ()
    children: tuple[Relation, ...] = ()

    @property
    def quoted(self) -> str:
        return identifier(self.schema, self.name)

    @property
    def shown(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Step:
    """Statements that belong together: one transaction with short locks, or a single one that waits outside of any.

    `leaves` is the index that stays behind, invalid, when the step fails. Where a step stands `alone`, the following ones are
    done though it fails: one partition that cannot be made must not keep the next ones from being made.
    """

    owner: str
    schema: str
    statements: tuple[str, ...]
    concurrent: bool = False
    leaves: str = ""
    alone: bool = False

    def __str__(self) -> str:
        return "; ".join(self.statements)


@dataclass
class Plan:
    """What to do. `notices` are no failure, `problems` are; `busy` is what others are at right now: look again later."""

    steps: list[Step] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)

    def problem(self, reason: str, text: str) -> Plan:
        self.problems.append((reason, text))
        return self


def expired_mark(root: Relation) -> str:
    """Return the comment of a partition that is on its way from `root` to being dropped."""
    return f"uptier.platform: taken from {root.shown} after its retention, to be dropped"


def short(name: str, suffix: str = "") -> str:
    """Return `name` + `suffix`, with the end of a long name replaced by a digest so that it stays a name of its own."""
    if len((name + suffix).encode()) <= LONGEST:
        return name + suffix
    digest = "_" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: LONGEST - len((digest + suffix).encode())].decode(errors="ignore") + digest + suffix


def missing(label: str, schema: str, table: str, names: Iterable[tuple[str, str]]) -> str:
    """Return the sentence for a table that is not there, with the name that was perhaps meant."""
    close = [name for place, name in names if place == schema and name.lower() == table.lower()]
    hint = f" There is {close[0]}: names are case-sensitive, as they are stored." if close else ""
    return f"Skipped {label}: there is no table {schema}.{table} (yet).{hint}"


# --- indexes -------------------------------------------------------------------------------------------------------


def plan_index(spec: IndexSpec, root: Relation | None, signature: Mapping[str, Any], names: Iterable[tuple[str, str]]) -> Plan:
    """Return the way to one index. `names` are all relations as (schema, name), `signature` is how PostgreSQL describes the wanted one."""
    plan = Plan()
    if root is None or root.kind not in ("r", "p", "m"):
        if spec.present:
            text = missing(spec.label, spec.schema, spec.table, names)
            plan.notices.append(text if root is None else f"Skipped {spec.label}: that is not a table that can have an index.")
        return plan
    return _IndexPlanner(spec, root, signature, set(names), plan).run()


class _IndexPlanner:
    """The way to one index; methods add steps to `plan`."""

    def __init__(self, spec: IndexSpec, root: Relation, signature: Mapping[str, Any], names: set[tuple[str, str]], plan: Plan) -> None:
        self.spec, self.root, self.signature, self.names, self.plan = spec, root, signature, names, plan
        self.new, self.old = short(spec.name, "_uptier_new"), short(spec.name, "_uptier_old")

    def run(self) -> Plan:
        found = {index.name: index for index in self.root.indexes}
        main, new, old = (found.get(name) for name in (self.spec.name, self.new, self.old))
        for index in (main, new, old):
            if index and index.building:
                self.plan.busy.append(f"{self.spec.label}: another session builds {index.name}")
                return self.plan
        if not self.spec.present:
            for index in (main, new, old):
                if index and self._mine(index):
                    self._drop(index)
            return self.plan
        if main is None and (self.root.schema, self.spec.name) in self.names:
            return self.plan.problem("name_taken", f"{self.spec.label}: another relation of the schema has this name. Choose another one.")
        if old:  # of a replacement that was cut short after the swap
            self._drop(old)
        tree = self.root.kind == "p"
        if main and self._wanted(main) and (main.valid or tree):
            if new:
                self._drop(new)
            if tree:
                self._complete(self.root, main.name, main)
        elif main and not self._mine(main):
            return self.plan
        elif main and (main.valid or tree):  # serves queries until the new one does
            self._build(new, self.new)
            swap = [self._rename(main.name, self.old), self._rename(self.new, self.spec.name)]
            self._step(*swap)
            self._drop(main, self.old)
        else:
            if main:
                self._drop(main)
            if new and self._wanted(new) and (new.valid or tree):
                self._build(new, self.new)
                self._step(self._rename(self.new, self.spec.name))
            else:
                if new:
                    self._drop(new)
                self._build(None, self.spec.name)
        return self.plan

    def _wanted(self, index: Index) -> bool:
        return index.signature == self.signature

    def _mine(self, index: Index) -> bool:
        """Tell whether the index may be replaced or dropped by itself."""
        if index.constraint:
            self.plan.problem(
                "constraint_index",
                f"{self.spec.label} differs from the wanted one and belongs to a constraint. Change the constraint by a migration.",
            )
        elif index.parent:
            self.plan.problem("part_of_index", f"{self.spec.label} belongs to an index of the partitioned table above. Declare it there.")
        return not (index.constraint or index.parent)

    def _step(self, *statements: str) -> None:
        self.plan.steps.append(Step(self.root.owner, self.root.schema, statements))

    def _rename(self, name: str, to: str) -> str:
        return f"ALTER INDEX {identifier(self.root.schema, name)} RENAME TO {identifier(to)}"

    def _drop(self, index: Index, name: str = "", relation: Relation | None = None) -> None:
        """PostgreSQL can drop an index of a partitioned table with a lock only."""
        where = relation or self.root
        concurrent = where.kind != "p"
        sql = f"DROP INDEX {'CONCURRENTLY ' if concurrent else ''}IF EXISTS {identifier(where.schema, name or index.name)}"
        self.plan.steps.append(Step(where.owner, where.schema, (sql,), concurrent))

    def _build(self, found: Index | None, name: str) -> None:
        """Have an index of this name, complete; `found` is what an earlier run has left of it."""
        if self.root.kind == "p":
            if found and not self._wanted(found):
                self._drop(found)
                found = None
            if not found:
                self._step(self.spec.definition(name, f"ONLY {self.root.quoted}", False))
            self._complete(self.root, name, found)
        elif not (found and found.valid and self._wanted(found)):
            if found:
                self._drop(found)
            self._create(self.root, name)

    def _create(self, relation: Relation, name: str) -> None:
        sql = self.spec.definition(name, relation.quoted, True)
        self.plan.steps.append(Step(relation.owner, relation.schema, (sql,), True, identifier(relation.schema, name)))

    def _complete(self, relation: Relation, name: str, found: Index | None) -> None:
        """Give each partition its part of the index `name`; PostgreSQL makes it valid with the last one."""
        before = len(self.plan.steps)
        attached = {}
        for child in relation.children:
            if child.kind not in ("r", "p"):
                text = f"{self.spec.label}: {child.shown} is a foreign table. The index stays invalid; it serves the other partitions."
                self.plan.notices.append(text)
                continue
            part = next((index for index in child.indexes if found and index.parent == found.oid), None)
            attach = f"ALTER INDEX {identifier(relation.schema, name)} ATTACH PARTITION "
            if part:
                attached[part.name] = attach + identifier(child.schema, part.name)
                if child.kind == "p":
                    self._complete(child, part.name, part)
                elif not part.valid:
                    sql = f"REINDEX INDEX CONCURRENTLY {identifier(child.schema, part.name)}"
                    self.plan.steps.append(Step(child.owner, child.schema, (sql,), True))
                    self._step(attached[part.name])
            else:
                self._step(attach + identifier(child.schema, self._part(child)))
        if found and not found.valid and attached and len(self.plan.steps) == before:
            self._step(next(iter(attached.values())))  # all parts are there and valid: have PostgreSQL look again

    def _part(self, child: Relation) -> str:
        """Have an index on one partition that can be attached, and return its name."""
        free = [index for index in child.indexes if not (index.parent or index.constraint or index.building)]
        same = [index for index in free if self._wanted(index) and (index.valid or child.kind == "p")]
        if same:
            if child.kind == "p":
                self._complete(child, same[0].name, same[0])
            return same[0].name
        # Several names, because while an index is replaced its predecessor has one of them.
        own = [short(f"{child.name}_{self.spec.name}", suffix) for suffix in ("", "_r", "_r2", "_r3")]
        for index in child.indexes:
            if index.name in own and index.building:
                self.plan.busy.append(f"{self.spec.label}: another session builds {index.name}")
            elif index in free and index.name in own:
                self._drop(index, relation=child)
                self.names.discard((child.schema, index.name))
        name = next((entry for entry in own if (child.schema, entry) not in self.names), own[0])
        self.names.add((child.schema, name))
        if child.kind == "p":
            sql = self.spec.definition(name, f"ONLY {child.quoted}", False)
            self.plan.steps.append(Step(child.owner, child.schema, (sql,)))
            self._complete(child, name, None)
        else:
            self._create(child, name)
        return name


# --- partitions by time --------------------------------------------------------------------------------------------


def start_of(interval: str, moment: datetime) -> datetime:
    """Return the beginning of the day, week (Monday), month or year in which a moment lies, in UTC."""
    day = moment.astimezone(UTC).date()
    if interval == "week":
        day -= timedelta(days=day.weekday())
    elif interval == "month":
        day = day.replace(day=1)
    elif interval == "year":
        day = day.replace(month=1, day=1)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def shift(interval: str, start: datetime, count: int) -> datetime:
    """Return the beginning of the interval that lies `count` intervals after (before, if negative) the one that begins at `start`."""
    if interval in ("day", "week"):
        return start + timedelta(days=count * (7 if interval == "week" else 1))
    months = start.year * 12 + start.month - 1 + count * (12 if interval == "year" else 1)
    return start.replace(year=months // 12, month=months % 12 + 1)


def partition_name(table: str, interval: str, start: datetime) -> str:
    """Return transactions_2025_10; a week is named by its ISO year and number, as transactions_2025_w41."""
    year, week, dummy = start.isocalendar()
    suffix = {
        "day": f"_{start:%Y_%m_%d}",
        "week": f"_{year:04}_w{week:02}",
        "month": f"_{start:%Y_%m}",
        "year": f"_{start.year:04}",
    }[interval]
    return short(table, suffix)


def parse_now(text: str) -> datetime:
    """Read a date or a moment; without an offset it is UTC. Empty is now."""
    if not text:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"now is {text}; give a date as 2025-10-15 or a moment as 2025-10-15T12:00:00+00:00.") from error
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


BOUND = re.compile(r"FOR VALUES FROM \((?P<low>.*)\) TO \((?P<high>.*)\)", re.DOTALL)


def parse_bounds(text: str) -> tuple[datetime, datetime] | None:
    """Read a range of one date or time column, as PostgreSQL writes it with DateStyle ISO and TimeZone UTC; None for the default."""
    found = BOUND.fullmatch(text)
    if not found:
        return None
    return _bound(found["low"], FIRST), _bound(found["high"], LAST)


def _bound(text: str, otherwise: datetime) -> datetime:
    value = text.strip("'")
    if value in ("-infinity", "MINVALUE"):
        return FIRST
    if value in ("infinity", "MAXVALUE"):
        return LAST
    try:
        found = datetime.fromisoformat(value)
    except ValueError:  # before the year 1, or after 9999
        return otherwise
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def write_bound(moment: datetime, key_type: str) -> str:
    """Return a bound as a literal that means the same in every session."""
    day = f"{moment.year:04}-{moment:%m-%d}"
    if key_type == "date":
        return literal(day)
    return literal(f"{day} 00:00:00" + ("+00" if key_type.endswith("with time zone") else ""))


@dataclass(frozen=True)
class Coverage:
    """How far partitions reach from now on: whole intervals after the current one, and until when."""

    ahead: int
    until: datetime


def ranges(root: Relation) -> list[tuple[datetime, datetime, Relation]]:
    found = [(parse_bounds(child.bound), child) for child in root.children if not child.detaching]
    return sorted(((low, high, child) for bounds, child in found if bounds for low, high in [bounds]), key=lambda entry: entry[:2])


def covered(existing: Sequence[tuple[datetime, datetime, Relation]], low: datetime, high: datetime) -> datetime:
    """Return how far the ranges reach without a gap from `low` on, at most to `high`."""
    for begin, end, dummy in existing:
        if begin <= low < end:
            low = end
    return min(low, high)


def coverage(spec: PartitionSpec, root: Relation, now: datetime) -> Coverage:
    current = start_of(spec.interval, now)
    until = covered(ranges(root), current, LAST)
    ahead = 0
    while ahead < 10000 and until.year < 9000 and shift(spec.interval, current, ahead + 2) <= until:
        ahead += 1
    return Coverage(ahead, until)


def default_of(root: Relation) -> Relation | None:
    return next((child for child in root.children if child.bound == "DEFAULT"), None)


def plan_partitions(
    spec: PartitionSpec, root: Relation | None, names: Iterable[tuple[str, str]], expired: Sequence[Relation], now: datetime
) -> Plan:
    """Return the way to the partitions of one table. `expired` are tables that an earlier run has detached to drop them."""
    plan, names = Plan(), set(names)
    if root is None:
        plan.notices.append(missing(spec.label, spec.schema, spec.table, names))
        return plan
    if root.kind != "p":
        text = f"Skipped {spec.label}: the table is not partitioned. PostgreSQL cannot partition it in place; docs/how-to/schema.md says how to."
        plan.notices.append(text)
        return plan
    if (wanted := "r" if spec.interval else "h") != root.strategy:
        words = {"r": "range", "h": "hash", "l": "list"}
        text = (
            f"{spec.label}: the table is partitioned by {words.get(root.strategy)}, {words[wanted]} is declared. Correct the declaration."
        )
        return plan.problem("strategy_differs", text)
    if spec.default and spec.interval and default_of(root) is None:
        _add(plan, root, short(spec.table, "_default"), "DEFAULT", names, spec)
    if not spec.interval:
        return _plan_hash(spec, root, names, plan)
    if root.key_columns != 1 or root.key_type not in KEY_TYPES:
        seen = root.key_type or "an expression" if root.key_columns == 1 else f"{root.key_columns} columns"
        return plan.problem("unsupported_key", f"{spec.label}: the key is {seen}. One column of type date or timestamp is needed.")
    _plan_ahead(spec, root, names, plan, now)
    _plan_retention(spec, root, expired, plan, now)
    return plan


def _add(plan: Plan, root: Relation, name: str, bound: str, names: set[tuple[str, str]], spec: PartitionSpec) -> None:
    """Make an empty copy and attach it: readers and writers of the table go on meanwhile, which CREATE ... PARTITION OF forbids them."""
    if (root.schema, name) in names:
        text = f"{spec.label}: {spec.schema}.{name} exists and is not a partition of it. Attach, rename or drop it."
        plan.problem("name_taken", text)
        return
    table = identifier(root.schema, name)
    copies = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION"
    create = f"CREATE TABLE {table} (LIKE {root.quoted} {copies})"
    attach = f"ALTER TABLE {root.quoted} ATTACH PARTITION {table} {bound}"
    plan.steps.append(Step(root.owner, root.schema, (create, attach), alone=True))


def _plan_hash(spec: PartitionSpec, root: Relation, names: set[tuple[str, str]], plan: Plan) -> Plan:
    found = [re.fullmatch(r"FOR VALUES WITH \(modulus (\d+), remainder (\d+)\)", child.bound, re.IGNORECASE) for child in root.children]
    present = {(int(match[1]), int(match[2])) for match in found if match}
    if other := {modulus for modulus, dummy in present} - {spec.modulus}:
        text = f"{spec.label}: there are partitions with modulus {min(other)}, {spec.modulus} is declared. That would move rows, which is not done here."
        return plan.problem("modulus_differs", text)
    for remainder in range(spec.modulus):
        if (spec.modulus, remainder) not in present:
            bound = f"FOR VALUES WITH (MODULUS {spec.modulus}, REMAINDER {remainder})"
            _add(plan, root, short(spec.table, f"_p{remainder}"), bound, names, spec)
    return plan


def _plan_ahead(spec: PartitionSpec, root: Relation, names: set[tuple[str, str]], plan: Plan, now: datetime) -> None:
    existing, current = ranges(root), start_of(spec.interval, now)
    for count in range(spec.premake + 1):
        low, high = shift(spec.interval, current, count), shift(spec.interval, current, count + 1)
        if covered(existing, low, high) == high:
            continue
        other = next((child for begin, end, child in existing if begin < high and end > low), None)
        if other:
            text = f"{spec.label}: {other.shown} has a part of {low.date()} to {high.date()} only, the rest has no partition."
            plan.problem("overlap", f"{text} Attach one for the rest by a migration.")
            continue
        bound = f"FOR VALUES FROM ({write_bound(low, root.key_type)}) TO ({write_bound(high, root.key_type)})"
        _add(plan, root, partition_name(spec.table, spec.interval, low), bound, names, spec)


def cutoff(spec: PartitionSpec, now: datetime) -> datetime | None:
    """Return the moment before which data has expired: `retention` whole intervals before the current one are kept."""
    return shift(spec.interval, start_of(spec.interval, now), -spec.retention) if spec.retention else None


def _plan_retention(spec: PartitionSpec, root: Relation, expired: Sequence[Relation], plan: Plan, now: datetime) -> None:
    def step(*statements: str, concurrent: bool = False) -> None:
        plan.steps.append(Step(root.owner, root.schema, statements, concurrent))

    drop, limit = spec.expire == "drop", cutoff(spec, now)
    for child in root.children:
        if child.detaching:  # by a run that was cut short; nothing else can be detached before
            step(f"ALTER TABLE {root.quoted} DETACH PARTITION {child.quoted} FINALIZE")
    if drop:
        for table in [*expired, *(child for child in root.children if child.detaching and child.marked)]:
            step(f"DROP TABLE {table.quoted}")
    for low, high, child in ranges(root) if limit else ():
        if high > limit or low == FIRST:
            continue
        detach = f"ALTER TABLE {root.quoted} DETACH PARTITION {child.quoted}"
        if spec.default or default_of(root):
            # PostgreSQL detaches concurrently only where there is no default partition.
            step(f"DROP TABLE {child.quoted}" if drop else detach)
        elif drop:
            # The mark says to a later run that the table may go, should this one be cut short in between.
            step(f"COMMENT ON TABLE {child.quoted} IS {literal(expired_mark(root))}")
            step(f"{detach} CONCURRENTLY", concurrent=True)
            step(f"DROP TABLE {child.quoted}")
        else:
            step(f"{detach} CONCURRENTLY", concurrent=True)


# --- scripts that run once -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScriptSpec:
    """SQL that runs once in a database, and once more when it changes."""

    database: str
    name: str
    sql: str
    role: str = ""

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> ScriptSpec:
        return cls(**{key: value for key, value in entry.items() if value is not None})

    @property
    def checksum(self) -> str:
        return hashlib.sha256(f"{self.role}\n{self.sql}".encode()).hexdigest()

    @property
    def label(self) -> str:
        return f"script {self.name} in {self.database}"


def plan_scripts(scripts: Sequence[ScriptSpec], done: Mapping[str, str]) -> list[ScriptSpec]:
    """Return the scripts that have not run in this wording. `done` has the checksums by name."""
    return [script for script in scripts if done.get(script.name) != script.checksum]


# --- catalogues ----------------------------------------------------------------------------------------------------


def build_relations(rows: Iterable[Mapping[str, Any]], indexes: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Relation]:
    """Put tables, their partitions and their indexes together; the result has every table by (schema, name)."""
    by_table: dict[int, list[Index]] = {}
    for row in indexes:
        known = {key: value for key, value in row.items() if key != "table"}
        by_table.setdefault(row["table"], []).append(Index(**known))
    rows = sorted(rows, key=lambda row: -row["level"])
    children: dict[int, list[Relation]] = {}
    found = {}
    for row in rows:
        known = {key: value for key, value in row.items() if key not in ("parent", "level")}
        parts = sorted(children.get(row["oid"], []), key=lambda child: child.name)
        relation = Relation(**known, indexes=tuple(by_table.get(row["oid"], [])), children=tuple(parts))
        if row["parent"]:
            children.setdefault(row["parent"], []).append(relation)
        found[relation.schema, relation.name] = relation
    return found
