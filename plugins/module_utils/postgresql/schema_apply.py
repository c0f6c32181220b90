# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring indexes, partitions and scripts of one PostgreSQL server to what is declared. Used by the module pg_schema and by the
timer that looks after partitions between two runs.

What changes something is done by one run at a time in each database (an advisory lock of the session). A step that others
keep from its lock is tried again a bounded number of times; after all steps the catalogues are read again, and only when
there is nothing left to do the work counts as done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema import (
    KEY_TYPES,
    SECONDS,
    SIGNATURE,
    IndexSpec,
    PartitionSpec,
    Plan,
    Relation,
    ScriptSpec,
    Step,
    build_relations,
    coverage,
    default_of,
    expired_mark,
    plan_index,
    plan_partitions,
    plan_scripts,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import Session, SqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.sql import identifier, literal

NAME = "uptier schema"
LOCK = 7593215  # the advisory lock; any number that nobody else uses
ROUNDS = 5
HOLD_SECONDS = 10
COUNT_LIMIT = 10000
LOCKED, DEADLOCK, TOO_LONG, NO_DATABASE = "55P03", "40P01", "57014", "3D000"
# What another hand has changed between reading and doing: read again.
OUTDATED = (DEADLOCK, "42P07", "42710", "42704", "42P01")
REASONS = {LOCKED: "locked", DEADLOCK: "locked", TOO_LONG: "too_long", "23505": "not_unique", "23514": "rows_in_default"}
ADVICE = {
    "locked": "Nothing is half done. Run it again when these have ended, or raise lock_retries.",
    "blocked": "The next run rolls back what was begun. End these transactions, or raise wait_timeout, and run it again.",
    "too_long": "The default partition is large, and every new partition has to look through it. Move its rows by a migration.",
    "not_unique": "Rows have equal values. Remove the duplicates, or declare the index without unique.",
    "rows_in_default": "Rows of this range are in the default partition. Move them by a migration (docs/runbooks/postgresql.md).",
    "bad_definition": "PostgreSQL rejects the definition: compare names and types with the table.",
    "sql_failed": "Correct what the server names and run it again.",
}

TABLES = """
WITH RECURSIVE tree(oid, parent, level, detaching) AS (
  SELECT c.oid, 0::oid, 0, false FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = {schema} AND c.relname = {table} AND c.relkind IN ('r', 'p', 'm', 'f', 'v')
  UNION ALL
  SELECT h.inhrelid, h.inhparent, t.level + 1, h.inhdetachpending FROM tree t
  JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p' JOIN pg_inherits h ON h.inhparent = t.oid),
gone(oid, parent, level, detaching) AS (
  SELECT c.oid, 0::oid, 0, false FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = c.oid AND d.objsubid = 0 AND d.description = {mark}
  WHERE n.nspname = {schema} AND c.relkind IN ('r', 'p') AND NOT c.relispartition)
SELECT json_build_object(
  'tables', (SELECT coalesce(json_agg(r), '[]') FROM tree t, LATERAL ({relation}) r),
  'expired', (SELECT coalesce(json_agg(r), '[]') FROM gone t, LATERAL ({relation}) r),
  'indexes', (SELECT coalesce(json_agg(json_build_object('table', i.indrelid::int8, 'oid', i.indexrelid::int8, 'name', x.relname,
      'valid', i.indisvalid, 'parent', coalesce((SELECT h.inhparent::int8 FROM pg_inherits h WHERE h.inhrelid = i.indexrelid), 0),
      'building', EXISTS (SELECT FROM pg_stat_progress_create_index b WHERE b.index_relid = i.indexrelid AND b.datname = current_database()),
      'constraint', EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x')),
      'signature', {signature})), '[]')
    FROM tree t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam),
  'names', (SELECT coalesce(json_agg(json_build_array(n.nspname, c.relname)), '[]') FROM pg_class c JOIN pg_namespace n
    ON n.oid = c.relnamespace WHERE n.nspname = {schema} OR n.oid IN (SELECT relnamespace FROM tree JOIN pg_class USING (oid))))
"""
RELATION = """
SELECT c.oid::int8 AS oid, t.parent::int8 AS parent, t.level, n.nspname AS schema, c.relname AS name, c.relkind AS kind,
  pg_get_userbyid(c.relowner) AS owner, coalesce(pg_get_expr(c.relpartbound, c.oid), '') AS bound, t.detaching,
  coalesce(obj_description(c.oid, 'pg_class') = {mark}, false) AS marked, coalesce(p.partstrat, '') AS strategy,
  coalesce(p.partnatts, 0) AS key_columns, coalesce(format_type(a.atttypid, NULL), '') AS key_type
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0] WHERE c.oid = t.oid
"""
BLOCKERS = """
SELECT coalesce(string_agg(format('%s (user %s, application %s, open for %s s)', pid, usename,
  coalesce(nullif(application_name, ''), '-'), extract(epoch FROM clock_timestamp() - xact_start)::int), ', '), '')
FROM (SELECT * FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'
  AND (datname = current_database() OR datname IS NULL) ORDER BY xact_start LIMIT 5) s
"""
# Unlike a table of one's own choice, this schema is the superuser's, or the administrator's at a provider: nobody else can make a
# script count as done.
SCRIPTS_TABLE = (
    "CREATE SCHEMA IF NOT EXISTS uptier",
    "CREATE TABLE IF NOT EXISTS uptier.scripts (name text PRIMARY KEY, checksum text NOT NULL, ran_at timestamptz NOT NULL DEFAULT now())",
)


# A script may hold a secret.
UNLOGGED = ("log_statement = 'none'", "log_min_duration_statement = -1", "log_min_error_statement = 'panic'")


@dataclass
class Settings:
    """How to reach the server and how patient to be; seconds."""

    directory: str = "/run/postgresql"
    port: int = 5432
    user: str = "postgres"
    lock_timeout: float = 2
    lock_retries: int = 10
    wait_timeout: int = 600
    # How to open a session with a database where that is not on the local socket, and the database to ask about the server.
    connect: Callable[[str, str], Session] | None = None
    database: str = "postgres"

    def session(self, database: str) -> Session:
        if self.connect:
            return self.connect(database, NAME)
        return Session(database, self.directory, self.port, self.user, NAME)


@dataclass
class Outcome:
    """What was done, or would be, and what was left."""

    steps: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class State:
    """One partitioned table, in figures."""

    spec: PartitionSpec
    ahead: int
    until: float
    total: int
    default_rows: int

    @property
    def seconds(self) -> float:
        return SECONDS[self.spec.interval]


@dataclass(frozen=True)
class Seen:
    """What the catalogues say about one table."""

    root: Relation | None
    expired: tuple[Relation, ...]
    names: tuple[tuple[str, str], ...]


def leads(settings: Settings) -> bool:
    """Tell whether this member leads now, as the server itself says."""
    with settings.session(settings.database) as session:
        return session.value("SELECT pg_is_in_recovery()") == "f"


class Worker:
    """The work in one database."""

    def __init__(self, session: Session, settings: Settings, outcome: Outcome, check: bool) -> None:
        self._session, self._settings, self._outcome, self._check = session, settings, outcome, check
        self._locked = False
        self._outdated = ""
        for statement in (
            "SET search_path = pg_catalog",
            "SET statement_timeout = 0",
            "SET idle_in_transaction_session_timeout = 0",
            "SET datestyle = 'ISO, YMD'",
            "SET timezone = 'UTC'",
            f"SET lock_timeout = '{self._milliseconds(settings.lock_timeout)}ms'",
        ):
            session.execute(statement)
        # Nobody else may keep a statement out of the server's log.
        self._superuser = session.value("SHOW is_superuser") == "on"

    # -- what is wanted ---------------------------------------------------------------------------------------------

    def index(self, spec: IndexSpec) -> None:
        def plan() -> Plan:
            seen = self._look(spec.schema, spec.table)
            known = spec.present and seen.root is not None and seen.root.kind in ("r", "p", "m")
            return plan_index(spec, seen.root, self._describe(spec, seen.root) if known and seen.root else {}, seen.names)

        self._settle(spec.label, plan)

    def partitions(self, spec: PartitionSpec, now: datetime) -> State | None:
        """Bring the partitions of a table to what is wanted; return how they are then (None: not by time, or no such table)."""

        def plan() -> Plan:
            seen = self._look(spec.schema, spec.table)
            return plan_partitions(spec, seen.root, seen.names, seen.expired, now)

        self._settle(spec.label, plan)
        return self.state(spec, now)

    def state(self, spec: PartitionSpec, now: datetime) -> State | None:
        with self._problems(spec.label):
            return self._state(spec, now)
        return None

    def _state(self, spec: PartitionSpec, now: datetime) -> State | None:
        root = self._look(spec.schema, spec.table).root
        if root is None or root.strategy != "r" or root.key_type not in KEY_TYPES or not spec.interval:
            return None
        found, default = coverage(spec, root, now), default_of(root)
        rows = 0
        if default:
            count = f"SELECT count(*) FROM (SELECT FROM {default.quoted} LIMIT {COUNT_LIMIT}) s"
            rows = int(self._patiently(lambda: self._session.value(count)))
            if rows:
                least = "at least " if rows == COUNT_LIMIT else ""
                self._outcome.notices.append(f"{spec.label}: {least}{rows} rows are in the default partition {default.shown}.")
        return State(spec, found.ahead, found.until.timestamp(), len(root.children), rows)

    def scripts(self, specs: Sequence[ScriptSpec]) -> None:
        def todo() -> list[ScriptSpec]:
            there = self._session.value("SELECT to_regclass('uptier.scripts')")
            done = self._session.data("SELECT json_object_agg(name, checksum) FROM uptier.scripts") if there else {}
            return plan_scripts(specs, done or {})

        # Without scripts their schema is not asked about: the owner of a provider's database, as whom the timer comes, may not look into it.
        if not specs or not todo():
            return
        if not self._check:
            self._lock()
            for statement in SCRIPTS_TABLE:
                self._session.execute(statement)
        for script in todo():
            if self._check or self._run_script(script):
                self._outcome.steps.append(f"run the {script.label} ({script.checksum[:12]})")

    # -- reading ----------------------------------------------------------------------------------------------------

    def _look(self, schema: str, table: str) -> Seen:
        mark = literal(expired_mark(Relation(0, schema, table)))
        relation = RELATION.format(mark=mark)
        query = TABLES.format(schema=literal(schema), table=literal(table), mark=mark, relation=relation, signature=SIGNATURE)
        data = self._patiently(lambda: self._session.data(query))
        known = build_relations(data["tables"], data["indexes"])
        gone = build_relations(data["expired"], ())
        return Seen(known.get((schema, table)), tuple(gone.values()), tuple((place, name) for place, name in data["names"]))

    def _describe(self, spec: IndexSpec, root: Relation) -> dict[str, Any]:
        """Have PostgreSQL say what the wanted index would be: made on an empty copy of the table in a transaction that is taken back."""
        copy = identifier("pg_temp", root.name)
        statements = [
            *(["SET LOCAL log_statement = 'none'"] if self._superuser else []),
            self._path(root.schema),
            f"CREATE TEMPORARY TABLE {identifier(root.name)} (LIKE {root.quoted})",
            f"ALTER TABLE {copy} OWNER TO {identifier(root.owner)}",
            spec.definition(spec.name, copy, False),
            "SET LOCAL search_path = pg_catalog",
        ]
        query = f"SELECT {SIGNATURE} FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam "
        query += f"WHERE i.indexrelid = {literal(identifier('pg_temp', spec.name))}::regclass"

        def ask() -> dict[str, Any]:
            self._session.execute("BEGIN")
            try:
                for statement in statements:
                    self._session.execute(statement)
                return self._session.data(query)
            finally:
                self._session.execute("ROLLBACK")

        return self._patiently(ask)

    # -- doing ------------------------------------------------------------------------------------------------------

    def _settle(self, label: str, plan: Callable[[], Plan]) -> None:
        """Plan and do until there is nothing to do."""
        deadline = time.monotonic() + self._settings.wait_timeout
        with self._problems(label):
            for dummy in range(ROUNDS):
                found = plan()
                if found.steps and not self._locked and not self._check:
                    self._lock()
                    found = plan()  # another run may have done it meanwhile
                while found.busy and not self._check:
                    if time.monotonic() > deadline:
                        self._fail(
                            "busy", f"{'; '.join(found.busy)}, for longer than {self._settings.wait_timeout} s. Run it again afterwards."
                        )
                        return
                    time.sleep(1)
                    found = plan()
                if self._check or not found.steps:
                    self._outcome.steps += map(str, found.steps)
                    self._outcome.notices += [*found.notices, *found.busy]
                    self._outcome.problems += found.problems
                    return
                if not self._do(found.steps, label):
                    return
            text = f"{label}: there is still something to do after {ROUNDS} rounds. {self._outdated} Is somebody changing the table? Run it again."
            self._fail("unsettled", text)

    @contextmanager
    def _problems(self, label: str) -> Iterator[None]:
        """Make a problem of what goes wrong with one table, so that the next one gets its turn."""
        try:
            yield
        except (SqlError, _Stopped) as error:
            self._explain(label, error)

    def _explain(self, label: str, error: SqlError | _Stopped) -> None:
        if isinstance(error, _Stopped):
            self._fail(error.reason, f"{label}: {error}")
            return
        bad = error.code[:2] in ("42", "22", "0A") and error.code != "42501"
        reason = REASONS.get(error.code, "bad_definition" if bad else "sql_failed")
        self._fail(reason, f"{label}: {error} {ADVICE[reason]}")

    def _fail(self, reason: str, text: str) -> None:
        self._outcome.problems.append((reason, text))

    def _do(self, steps: Iterable[Step], label: str) -> bool:
        """Do the steps and return whether it is worth looking at the catalogues again."""
        good = True
        for step in steps:
            try:
                (self._run_concurrently if step.concurrent else self._run_locked)(step)
            except (SqlError, _Stopped) as error:
                if isinstance(error, SqlError) and error.code in OUTDATED:
                    self._outdated = f"{step}: {error}"
                    break
                if not step.alone:
                    raise
                self._explain(label, error)
                good = False
            else:
                self._outcome.steps.append(str(step))
        return good

    def _run_concurrently(self, step: Step) -> None:
        """Run one statement that keeps nobody waiting, though it waits for others: at most `wait_timeout`."""
        session = self._session
        session.execute(self._path(step.schema, local=False))
        session.execute(f"SET lock_timeout = '{self._settings.wait_timeout}s'")
        session.execute(f"SET ROLE {identifier(step.owner)}")
        try:
            session.execute(step.statements[0])
        except SqlError as error:
            blockers = self._blockers() if error.code == LOCKED else ""
            self._usual()
            if step.leaves:
                self._sweep(step.leaves)
            if error.code == LOCKED:
                text = f"{step} waited {self._settings.wait_timeout} s for other transactions. Oldest: {blockers}. {ADVICE['blocked']}"
                raise _Stopped("blocked", text) from error
            raise
        self._usual()

    def _usual(self) -> None:
        self._session.execute("RESET ROLE")
        self._session.execute("SET search_path = pg_catalog")
        self._session.execute(f"SET lock_timeout = '{self._milliseconds(self._settings.lock_timeout)}ms'")

    def _sweep(self, index: str) -> None:
        """Try to remove what a failed build has left; where that is not possible now, the next run does it."""
        query = f"SELECT 1 FROM pg_index WHERE indexrelid = to_regclass({literal(index)}) AND NOT indisvalid"
        try:
            if self._session.execute(query):
                self._session.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
        except SqlError:
            return

    def _run_locked(self, step: Step) -> None:
        """Run a transaction whose locks are strong and short: it waits briefly and steps back, so that no queue forms behind it."""
        hold = self._milliseconds(self._settings.lock_timeout + HOLD_SECONDS)
        before = (self._path(step.schema), f"SET LOCAL statement_timeout = '{hold}ms'", f"SET LOCAL ROLE {identifier(step.owner)}")

        def run() -> None:
            self._session.execute("BEGIN")
            try:
                for statement in (*before, *step.statements):
                    self._session.execute(statement)
                self._session.execute("COMMIT")
            except SqlError:
                self._session.execute("ROLLBACK")
                raise

        self._patiently(run)

    def _patiently(self, action: Callable[[], Any]) -> Any:
        """Do something that needs a lock; when it is not to be had, try again a bounded number of times."""
        attempt = 0
        while True:
            try:
                return action()
            except SqlError as error:
                if error.code not in (LOCKED, DEADLOCK):
                    raise
                if attempt >= self._settings.lock_retries:
                    text = f"no lock after {attempt + 1} attempts of {self._settings.lock_timeout:g} s each."
                    raise _Stopped("locked", f"{text} Oldest transactions: {self._blockers()}. {ADVICE['locked']}") from error
            time.sleep(min(0.5 * 2**attempt, 5))
            attempt += 1

    def _lock(self) -> None:
        """Be the only run in this database. Asked again and again, because a session that waits would hold up CONCURRENTLY."""
        deadline = time.monotonic() + self._settings.wait_timeout
        while not self._locked:
            self._locked = self._session.value(f"SELECT pg_try_advisory_lock({LOCK})") == "t"
            if not self._locked:
                if time.monotonic() > deadline:
                    query = f"SELECT string_agg(pid::text, ', ') FROM pg_locks WHERE locktype = 'advisory' AND objid = {LOCK} AND granted"
                    text = f"another run is working in {self._session.database} (backend {self._session.value(query)})"
                    raise _Stopped("busy", f"{text}, for longer than {self._settings.wait_timeout} s. Run it again afterwards.")
                time.sleep(0.5)

    def _run_script(self, script: ScriptSpec) -> bool:
        session = self._session
        try:
            session.execute("BEGIN")
            session.execute('SET LOCAL search_path = "$user", public')
            for setting in UNLOGGED if self._superuser else ():
                session.execute(f"SET LOCAL {setting}")
            if script.role:
                session.execute(f"SET LOCAL ROLE {identifier(script.role)}")
            session.script(script.sql)
            if session.status != "T":
                text = (
                    f"{script.label} ends its transaction. It runs in one of its own, together with the note that it ran: leave COMMIT out."
                )
                self._fail("left_transaction", text)
                return False
            session.execute("RESET ROLE")
            session.execute("SET LOCAL search_path = pg_catalog")
            note = f"VALUES ({literal(script.name)}, {literal(script.checksum)}) "
            note += "ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, ran_at = excluded.ran_at"
            session.execute(f"INSERT INTO uptier.scripts (name, checksum) {note}")
            session.execute("COMMIT")
        except SqlError as error:
            session.execute("ROLLBACK")
            self._fail("script_failed", f"{script.label}: {error} Nothing of it was committed. Correct it and run it again.")
            return False
        return True

    def _blockers(self) -> str:
        return self._session.value(BLOCKERS) or "none any more"

    @staticmethod
    def _path(schema: str, local: bool = True) -> str:
        return f"SET {'LOCAL ' if local else ''}search_path = {', '.join(dict.fromkeys((identifier(schema), 'public')))}"

    @staticmethod
    def _milliseconds(seconds: float) -> int:
        return max(1, round(seconds * 1000))


class _Stopped(Exception):
    """Others are in the way."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def bring_about(
    settings: Settings,
    now: datetime,
    check: bool,
    scripts: Sequence[ScriptSpec] = (),
    indexes: Sequence[IndexSpec] = (),
    partitions: Sequence[PartitionSpec] = (),
    states: list[State] | None = None,
) -> Outcome:
    """Bring all databases to what is declared; `check` only says what would be done. `states` is filled in for the metrics.

    Indexes come before partitions: what is attached then gets them from its table, so that both plans are independent.
    """
    outcome = Outcome()
    for database in dict.fromkeys(spec.database for spec in (*scripts, *indexes, *partitions)):
        try:
            session = settings.session(database)
        except SqlError as error:
            if error.code != NO_DATABASE:
                raise
            outcome.notices.append(f"Skipped what is declared for the database {database}: there is no such database (yet).")
            continue
        with session:
            worker = Worker(session, settings, outcome, check)
            try:
                worker.scripts([spec for spec in scripts if spec.database == database])
            except _Stopped as stop:
                outcome.problems.append((stop.reason, str(stop)))
                continue
            for index in indexes:
                if index.database == database:
                    worker.index(index)
            for wanted in partitions:
                if wanted.database == database:
                    state = worker.partitions(wanted, now)
                    if state and states is not None:
                        states.append(state)
    return outcome
