# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pg_schema against real servers: each PostgreSQL whose programs this machine has, started on a socket of its own.

UPTIER_POSTGRESQL names further directories of programs, with colons between them.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import schema_apply
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema import IndexSpec, PartitionSpec, ScriptSpec
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.schema_apply import Outcome, Settings, bring_about
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import Session, SessionError, SqlError

ROOT = Path(__file__).resolve().parents[5]
PROGRAMS = [
    *(Path(entry) for entry in os.environ.get("UPTIER_POSTGRESQL", "").split(":") if entry),
    *Path("/usr/lib/postgresql").glob("*/bin"),
]
USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
NOW = datetime(2025, 10, 15, 12, tzinfo=UTC)
OPTIONS = "listen_addresses=''\nfsync=off\nmax_connections=30\nshared_buffers=16MB\nautovacuum=off\nmax_prepared_transactions=5\n"


@dataclass
class Server:
    """A server, and a database of its own for each test."""

    settings: Settings
    version: int
    database: str = "postgres"

    def session(self, name: str = "test") -> Session:
        return Session(self.database, self.settings.directory, self.settings.port, self.settings.user, name)

    def ask(self, sql: str) -> str | None:
        with self.session() as session:
            return session.value(sql)

    def do(self, *statements: str) -> None:
        with self.session() as session:
            for statement in statements:
                session.execute(statement)

    def run(self, *wanted: IndexSpec | PartitionSpec | ScriptSpec, check: bool = False, now: datetime = NOW, **more: Any) -> Outcome:
        kinds: dict[type, list[Any]] = {IndexSpec: [], PartitionSpec: [], ScriptSpec: []}
        for entry in wanted:
            kinds[type(entry)].append(replace(entry, database=self.database))
        settings = replace(self.settings, **more)
        return bring_about(settings, now, check, kinds[ScriptSpec], kinds[IndexSpec], kinds[PartitionSpec])

    def names(self, sql: str) -> list[str]:
        with self.session() as session:
            return [str(row[0]) for row in session.execute(sql)]

    def partitions(self, table: str = "transactions") -> list[str]:
        return self.names(
            f"SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = '{table}'::regclass ORDER BY 1"
        )

    def indexes(self) -> list[tuple[str, str]]:
        """Return all indexes but those of constraints: name and whether it is valid."""
        with self.session() as session:
            rows = session.execute(
                "SELECT x.relname, i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid "
                "WHERE x.relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace) AND NOT i.indisprimary ORDER BY 1"
            )
        return [(str(name), str(valid)) for name, valid in rows]


@pytest.fixture(autouse=True)
def one_connects_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who a process is counts for all its threads, and only these tests have several."""
    connect, lock = Session._connect, threading.Lock()

    def connect_alone(self: Session, user: str) -> Any:
        with lock:
            return connect(self, user)

    monkeypatch.setattr(Session, "_connect", connect_alone)


@pytest.fixture(scope="session", params=PROGRAMS or [None], ids=lambda path: path.parent.name if path else "none")
def started(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param is None or not shutil.which("runuser"):
        pytest.skip("not verified here: no PostgreSQL (Debian package postgresql); scenario role_postgresql does the same work")
    with tempfile.TemporaryDirectory(prefix="uptier-pg-") as folder:
        shutil.chown(folder, USER)
        prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
        data = f"{folder}/data"

        def program(name: str, *words: str) -> None:
            subprocess.run([*prefix, request.param / name, "-D", data, *words], check=True, capture_output=True, cwd="/", timeout=60)

        program("initdb", "-U", USER, "-A", "peer", "-E", "UTF8", "--locale=C", "-N")
        with open(f"{data}/postgresql.conf", "a", encoding="utf-8") as stream:
            stream.write(f"{OPTIONS}unix_socket_directories='{folder}'\n")
        program("pg_ctl", "-w", "-l", f"{folder}/log", "start")
        try:
            settings = Settings(folder, 5432, USER, lock_timeout=0.2, lock_retries=3, wait_timeout=15)
            version = Server(settings, 0, "postgres").ask("SHOW server_version_num")
            yield Server(settings, int(version or 0) // 10000)
        finally:
            program("pg_ctl", "-w", "-m", "immediate", "stop")


@pytest.fixture
def server(started: Server, request: pytest.FixtureRequest) -> Iterator[Server]:
    name = re.sub(r"\W", "_", request.node.name)[:50]
    started.do(f'CREATE DATABASE "{name}"')
    yield replace(started, database=name)
    started.do(f'DROP DATABASE "{name}" WITH (FORCE)')


def index(name: str = "idx", table: str = "t", **more: Any) -> IndexSpec:
    entry = {"database": "", "table": table, "name": name, **more}
    return IndexSpec.read({"columns": ["a"], **entry} if "expressions" not in more else entry)


def by_month(**more: Any) -> PartitionSpec:
    return PartitionSpec.read({"database": "", "table": "transactions", "interval": "month", **more})


def table(server: Server, rows: int = 100) -> None:
    server.do("CREATE TABLE t (a int, b text, c timestamptz)", f"INSERT INTO t SELECT g, g::text, now() FROM generate_series(1, {rows}) g")


def transactions(server: Server, kind: str = "timestamptz") -> None:
    server.do(
        f"CREATE TABLE transactions (id bigint NOT NULL, at {kind} NOT NULL, user_id int DEFAULT 7, CHECK (id > 0)) PARTITION BY RANGE (at)"
    )


@pytest.fixture
def slow(server: Server) -> None:
    """A table whose index takes seconds: its expression sleeps."""
    server.do(
        "CREATE FUNCTION slowly(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.03); RETURN $1; END'",
        "CREATE TABLE t (a int)",
        "INSERT INTO t SELECT generate_series(1, 60)",
    )


def background(action: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []

    def work() -> None:
        try:
            found.append(action())
        except (SessionError, SqlError) as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, found


def until(check: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)
    return found


BUILDING = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database() AND index_relid <> 0"


def clean(outcome: Outcome) -> bool:
    return not (outcome.steps or outcome.problems or outcome.notices)


# --- indexes of plain tables ---------------------------------------------------------------------------------------


def test_the_exact_index_that_was_asked_for(server: Server) -> None:
    server.do("CREATE TABLE user_cards (id int PRIMARY KEY, user_id uuid, is_refunded boolean)")
    wanted = index("idx_user_cards_user_id", "user_cards", columns=["user_id"], where="is_refunded = false")
    foreseen = server.run(wanted, check=True)
    assert server.indexes() == []
    done = server.run(wanted)
    assert done.steps == foreseen.steps
    assert done.steps == [
        'CREATE INDEX CONCURRENTLY "idx_user_cards_user_id" ON "public"."user_cards" USING btree ("user_id") WHERE is_refunded = false'
    ]
    text = "CREATE INDEX idx_user_cards_user_id ON public.user_cards USING btree (user_id) WHERE (is_refunded = false)"
    assert server.ask("SELECT pg_get_indexdef('idx_user_cards_user_id'::regclass)") == text
    assert clean(server.run(wanted))


@pytest.mark.parametrize(
    ("wanted", "by_hand"),
    [
        (index(columns=["a", "b"], include=["c"], unique=True), "CREATE UNIQUE INDEX idx ON t (a, b) INCLUDE (c)"),
        (index(expressions=["lower( B )", "a desc nulls last"]), "CREATE INDEX idx ON t (lower(b), a DESC NULLS LAST)"),
        (index(where="a in (1,2) and b is not null"), "CREATE INDEX idx ON t (a) WHERE ((a = ANY (ARRAY[1, 2])) AND (b IS NOT NULL))"),
        (index(method="brin", columns=["c"]), "CREATE INDEX idx ON t USING brin (c) WITH (pages_per_range = 16)"),
        (
            index(method="gin", expressions=["to_tsvector('english', b)"]),
            "CREATE INDEX idx ON t USING gin (to_tsvector('english'::regconfig, b))",
        ),
        (index(method="hash"), "CREATE INDEX idx ON public.t USING hash (a)"),
        (index(expressions=["b text_pattern_ops", 'b collate "POSIX"']), 'CREATE INDEX idx ON t (b text_pattern_ops, b COLLATE "POSIX")'),
        (index(expressions=["(a + 1)"]), "CREATE INDEX idx ON t ((1 + a - 0 * 1 + 0))"),
    ],
    ids=["include", "expressions", "where", "brin", "gin", "hash", "classes", "differs"],
)
def test_what_means_the_same_is_left_alone(server: Server, wanted: IndexSpec, by_hand: str, request: pytest.FixtureRequest) -> None:
    table(server)
    server.do("ALTER TABLE t DROP COLUMN a", "ALTER TABLE t ADD a int", by_hand)  # other column numbers than a copy has
    assert clean(server.run(wanted)) == ("differs" not in request.node.name)


def test_another_definition_is_replaced_without_a_gap(server: Server) -> None:
    table(server)
    server.run(index())
    oid = server.ask("SELECT 'idx'::regclass::oid")
    done = server.run(index(columns=["b", "a"]))
    assert [step.split('"')[0].strip() for step in done.steps] == [
        "CREATE INDEX CONCURRENTLY",
        "ALTER INDEX",
        "DROP INDEX CONCURRENTLY IF EXISTS",
    ]
    assert server.indexes() == [("idx", "t")]
    assert server.ask("SELECT 'idx'::regclass::oid") != oid
    assert clean(server.run(index(columns=["b", "a"])))


@pytest.mark.parametrize("done", [1, 2], ids=["built", "exchanged"])
def test_a_replacement_that_was_cut_short_is_finished(server: Server, done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table(server)
    server.run(index())
    with monkeypatch.context() as patch:
        own = schema_apply.Worker._do
        patch.setattr(schema_apply.Worker, "_do", lambda self, steps, label: own(self, steps[:done], label))
        patch.setattr(schema_apply, "ROUNDS", 1)
        assert [reason for reason, dummy in server.run(index(columns=["b"])).problems] == ["unsettled"]
    assert len(server.indexes()) == 2
    rest = server.run(index(columns=["b"]))
    assert not rest.problems
    assert not any("CREATE" in step for step in rest.steps)
    assert server.indexes() == [("idx", "t")]


def test_a_killed_build_is_done_again(server: Server, slow: None) -> None:
    wanted = index(expressions=["slowly(a)"])
    thread, found = background(lambda: server.run(wanted))
    pid = until(lambda: server.names(BUILDING))[0]
    server.do(f"SELECT pg_terminate_backend({pid})")
    thread.join()
    assert found[0].reason == "connection_lost"
    until(lambda: not server.names(BUILDING))
    assert server.indexes() == [("idx", "f")]
    done = server.run(wanted)
    assert [step.split(" CONCURRENTLY")[0] for step in done.steps] == ["DROP INDEX", "CREATE INDEX"]
    assert server.indexes() == [("idx", "t")]
    assert clean(server.run(wanted))


def test_two_runs_at_once_build_once(server: Server, slow: None) -> None:
    wanted = index(expressions=["slowly(a)"])
    first, one = background(lambda: server.run(wanted))
    until(lambda: server.names(BUILDING))
    second, two = background(lambda: server.run(wanted))
    first.join()
    second.join()
    assert (len(one[0].steps), one[0].problems, two[0]) == (1, [], Outcome())
    assert server.indexes() == [("idx", "t")]


def test_a_build_by_somebody_else_is_waited_for(server: Server, slow: None) -> None:
    thread, dummy = background(lambda: server.do("CREATE INDEX CONCURRENTLY idx ON t (slowly(a))"))
    until(lambda: server.names(BUILDING))
    assert server.run(index(expressions=["slowly(a)"])) == Outcome()
    thread.join()
    assert server.indexes() == [("idx", "t")]


def test_a_long_transaction_is_waited_for_and_named(server: Server) -> None:
    table(server)
    with server.session("reporting") as other:
        other.execute("BEGIN")
        other.execute("INSERT INTO t VALUES (0)")
        outcome = server.run(index(), wait_timeout=1)
        other.execute("ROLLBACK")
    assert [reason for reason, dummy in outcome.problems] == ["blocked"]
    assert "application reporting" in outcome.problems[0][1]
    assert not server.run(index()).problems
    assert server.indexes() == [("idx", "t")]


def test_values_that_are_not_unique_are_told_and_nothing_is_left(server: Server) -> None:
    table(server)
    server.do("INSERT INTO t VALUES (1)")
    outcome = server.run(index(unique=True), index("other"))
    assert [reason for reason, dummy in outcome.problems] == ["not_unique"]
    assert server.indexes() == [("other", "t")]


def test_names_keep_their_case_and_are_quoted(server: Server) -> None:
    server.do('CREATE SCHEMA "Shop;"', 'CREATE TABLE "Shop;"."Bag ""1" ("User Id" int)', "CREATE TABLE users (a int)")
    wanted = index('I "x', 'Bag "1', schema="Shop;", columns=["User Id"])
    assert not server.run(wanted).problems
    assert server.indexes() == [('I "x', "t")]
    assert clean(server.run(wanted))
    assert "There is users" in server.run(index(table="Users")).notices[0]


def test_a_second_statement_is_refused(server: Server) -> None:
    table(server)
    outcome = server.run(index(where="true; DROP TABLE t"))
    assert [reason for reason, dummy in outcome.problems] == ["bad_definition"]
    assert server.ask("SELECT count(*) FROM t") == "100"


def test_wrong_columns_are_named_before_anything_is_done(server: Server) -> None:
    table(server)
    outcome = server.run(index(columns=["nope"]), check=True)
    assert outcome.problems[0][0] == "bad_definition"
    assert 'column "nope" does not exist' in outcome.problems[0][1]


def test_constraints_and_foreign_names_are_left_alone(server: Server) -> None:
    table(server)
    server.do("ALTER TABLE t ADD CONSTRAINT u UNIQUE (b)", "CREATE TABLE taken (a int)")
    outcome = server.run(index("u"), index("taken"), index("u", state="absent"))
    assert [reason for reason, dummy in outcome.problems] == ["constraint_index", "name_taken", "constraint_index"]


def test_absent(server: Server) -> None:
    table(server)
    server.run(index())
    assert server.run(index(state="absent")).steps == ['DROP INDEX CONCURRENTLY IF EXISTS "public"."idx"']
    assert clean(server.run(index(state="absent")))
    assert clean(server.run(index(table="gone", state="absent")))


def test_what_is_made_belongs_to_the_owner_of_the_table(server: Server) -> None:
    role = f"owner_{server.database}"[:60]
    server.do(f"CREATE ROLE {role}", f"GRANT CREATE ON SCHEMA public TO {role}")
    try:
        with server.session() as session:
            session.execute(f"SET ROLE {role}")
            session.execute("CREATE TABLE transactions (at date NOT NULL) PARTITION BY RANGE (at)")
            session.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC")
        assert not server.run(by_month(), index("i", "transactions", columns=["at"])).problems
        owners = server.names("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relname ~ '^(transactions|i$)'")
        assert owners == [role]
        assert "=r/" in str(server.ask("SELECT relacl FROM pg_class WHERE relname = 'transactions_2025_10'"))
    finally:
        server.do(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


# --- indexes of partitioned tables ---------------------------------------------------------------------------------


def tree(server: Server) -> None:
    transactions(server)
    server.run(by_month(premake=2, default=True))
    server.do(
        "CREATE TABLE transactions_old PARTITION OF transactions FOR VALUES FROM (MINVALUE) TO ('2025-01-01') PARTITION BY HASH (id)",
        "CREATE TABLE transactions_old_p0 PARTITION OF transactions_old FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE transactions_old_p1 PARTITION OF transactions_old FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "INSERT INTO transactions SELECT g, timestamptz '2024-12-30 00:00+00' + g * interval '1 day' FROM generate_series(1, 400) g",
    )


OF_USER = index("by_user", "transactions", columns=["user_id"])


def test_a_partitioned_table_gets_its_index_part_by_part(server: Server) -> None:
    tree(server)
    foreseen = server.run(OF_USER, check=True)
    done = server.run(OF_USER)
    assert done.steps == foreseen.steps
    assert done.steps[0] == 'CREATE INDEX "by_user" ON ONLY "public"."transactions" USING btree ("user_id")'
    assert sum("CONCURRENTLY" in step for step in done.steps) == 6
    assert {valid for dummy, valid in server.indexes()} == {"t"}
    assert clean(server.run(OF_USER))


@pytest.mark.parametrize("count", [1, 2, 3, 6, 11, 13])
def test_it_goes_on_wherever_it_was_interrupted(server: Server, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(server)
    steps = len(server.run(OF_USER, check=True).steps)
    with monkeypatch.context() as patch:
        own = schema_apply.Worker._do
        patch.setattr(schema_apply.Worker, "_do", lambda self, todo, label: own(self, todo[:count], label))
        patch.setattr(schema_apply, "ROUNDS", 1)
        server.run(OF_USER)
    rest = server.run(OF_USER)
    assert not rest.problems
    assert len(rest.steps) == max(0, steps - count)
    assert {valid for dummy, valid in server.indexes()} == {"t"}
    assert clean(server.run(OF_USER))


def test_an_invalid_part_is_built_again(server: Server) -> None:
    tree(server)
    server.do("CREATE INDEX by_user ON ONLY transactions (user_id)")
    server.do("CREATE INDEX transactions_2025_10_by_user ON transactions_2025_10 (user_id)")
    server.do("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'transactions_2025_10_by_user'::regclass")
    assert not server.run(OF_USER).problems
    server.do("UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('transactions_2025_11_by_user'::regclass, 'by_user'::regclass)")
    done = server.run(OF_USER)
    assert any("REINDEX INDEX CONCURRENTLY" in step for step in done.steps)
    assert not done.problems
    assert {valid for dummy, valid in server.indexes()} == {"t"}


def test_an_index_of_a_partitioned_table_is_replaced_and_dropped(server: Server) -> None:
    tree(server)
    server.run(OF_USER)
    before = len(server.indexes())
    other = index("by_user", "transactions", columns=["user_id", "at"])
    foreseen = server.run(other, check=True)
    done = server.run(other)
    assert not done.problems
    assert done.steps == foreseen.steps
    assert len(server.indexes()) == before
    assert {valid for dummy, valid in server.indexes()} == {"t"}
    assert clean(server.run(other))
    assert not server.run(OF_USER).problems  # and back
    server.run(index("by_user", "transactions", state="absent"))
    assert server.indexes() == []


def test_a_part_declared_by_itself_is_left_to_its_parent(server: Server) -> None:
    tree(server)
    server.run(OF_USER)
    name = "transactions_2025_10_by_user"
    outcome = server.run(index(name, "transactions_2025_10", columns=["at"]), index(name, "transactions_2025_10", state="absent"))
    assert [reason for reason, dummy in outcome.problems] == ["part_of_index"] * 2


def test_unique_without_the_key_is_told_first(server: Server) -> None:
    tree(server)
    outcome = server.run(index("u", "transactions", columns=["id"], unique=True))
    assert outcome.problems[0][0] == "bad_definition"
    assert server.indexes() == []


# --- partitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz", "timestamptz(3)"])
def test_partitions_are_made_ahead_and_rows_find_them(server: Server, kind: str) -> None:
    transactions(server, kind)
    server.run(OF_USER)
    foreseen = server.run(by_month(premake=2), check=True)
    done = server.run(by_month(premake=2))
    assert done.steps == foreseen.steps
    assert server.partitions() == ["transactions_2025_10", "transactions_2025_11", "transactions_2025_12"]
    with server.session() as session:
        session.execute("SET timezone = 'Pacific/Auckland'")
        row = "INSERT INTO transactions VALUES (1, '2025-10-15') RETURNING tableoid::regclass::text || user_id"
        assert session.value(row) == "transactions_2025_107"
        with pytest.raises(SqlError, match="violates check constraint"):
            session.execute("INSERT INTO transactions VALUES (0, '2025-10-15')")
    assert {valid for dummy, valid in server.indexes()} == {"t"}
    assert len(server.indexes()) == 4
    assert clean(server.run(by_month(premake=2)))
    later = datetime(2025, 11, 1, tzinfo=UTC)
    assert len(server.run(by_month(premake=2), now=later).steps) == 1


@pytest.mark.parametrize("interval", ["day", "week", "year"])
def test_other_intervals(server: Server, interval: str) -> None:
    transactions(server)
    wanted = by_month(interval=interval, premake=5)
    assert not server.run(wanted).problems
    names = {"day": "transactions_2025_10_20", "week": "transactions_2025_w47", "year": "transactions_2030"}
    assert server.partitions()[-1] == names[interval]
    assert clean(server.run(wanted))


def test_readers_and_writers_go_on_while_partitions_are_made(server: Server) -> None:
    transactions(server)
    server.run(by_month(premake=1))
    with server.session() as other:
        other.execute("BEGIN")
        other.execute("INSERT INTO transactions VALUES (1, '2025-10-15')")
        other.execute("SELECT count(*) FROM transactions")
        assert not server.run(by_month(premake=3)).problems
        other.execute("COMMIT")
    assert len(server.partitions()) == 4


def test_a_lock_that_is_not_to_be_had_is_told_and_nothing_is_half_done(server: Server) -> None:
    transactions(server)
    server.run(by_month(premake=1))
    with server.session("vacuum") as other:
        other.execute("BEGIN")
        other.execute("LOCK transactions IN SHARE UPDATE EXCLUSIVE MODE")
        start = time.monotonic()
        outcome = server.run(by_month(premake=2), lock_retries=1)
        assert time.monotonic() - start < 60
        other.execute("ROLLBACK")
    assert [reason for reason, dummy in outcome.problems] == ["locked"]
    assert "application vacuum" in outcome.problems[0][1]
    assert server.ask("SELECT to_regclass('transactions_2025_12')") is None
    assert not server.run(by_month(premake=2)).problems


@pytest.mark.parametrize("expire", ["detach", "drop"])
@pytest.mark.parametrize("default", [False, True])
def test_retention(server: Server, expire: str, default: bool) -> None:
    transactions(server)
    server.run(by_month(), now=datetime(2025, 1, 5, tzinfo=UTC))
    assert len(server.partitions()) == 4
    wanted = by_month(retention=8, premake=1, expire=expire, default=default)
    foreseen = server.run(wanted, check=True)
    done = server.run(wanted)
    assert done.steps == foreseen.steps
    assert any("CONCURRENTLY" in step for step in done.steps) != default
    left = [f"transactions_2025_{month}" for month in ("02", "03", "04", "10", "11")]
    assert server.partitions() == left + ["transactions_default"] * default
    assert (server.ask("SELECT to_regclass('transactions_2025_01')") is None) == (expire == "drop")
    assert clean(server.run(wanted))


@pytest.mark.parametrize("count", [1, 2])
def test_a_drop_that_was_cut_short_is_finished(server: Server, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    transactions(server)
    server.run(by_month(premake=1), now=datetime(2025, 1, 5, tzinfo=UTC))
    server.run(by_month(premake=1))
    wanted = by_month(premake=1, retention=1, expire="drop")
    with monkeypatch.context() as patch:
        own = schema_apply.Worker._do
        patch.setattr(schema_apply.Worker, "_do", lambda self, todo, label: own(self, todo[:count], label))
        patch.setattr(schema_apply, "ROUNDS", 1)
        server.run(wanted)
    assert not server.run(wanted).problems
    assert server.names("SELECT relname FROM pg_class WHERE relname LIKE 'transactions_2025_0%'") == []
    assert clean(server.run(wanted))


def test_a_detach_that_hung_is_finished(server: Server) -> None:
    transactions(server)
    server.run(by_month(premake=1), now=datetime(2025, 1, 5, tzinfo=UTC))
    server.run(by_month(premake=1))
    wanted = by_month(premake=1, retention=1, expire="drop")
    with server.session("reporting") as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT count(*) FROM transactions")
        outcome = server.run(wanted, wait_timeout=1)
        assert [reason for reason, dummy in outcome.problems] == ["blocked"]
        other.execute("COMMIT")
    assert server.ask("SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == "1"
    done = server.run(wanted)
    assert not done.problems
    assert any("FINALIZE" in step for step in done.steps)
    assert server.partitions() == ["transactions_2025_10", "transactions_2025_11"]
    assert clean(server.run(wanted))


def test_rows_in_the_default_partition(server: Server) -> None:
    transactions(server)
    server.run(by_month(premake=1, default=True))
    server.do("INSERT INTO transactions SELECT 1, '2026-01-05' FROM generate_series(1, 3)")
    outcome = server.run(by_month(premake=1, default=True))
    assert outcome.steps == []
    assert "3 rows are in the default partition" in outcome.notices[0]
    outcome = server.run(by_month(premake=4, default=True))
    assert [reason for reason, dummy in outcome.problems] == ["rows_in_default"]
    # The months after it are made all the same.
    assert server.partitions() == [
        *(f"transactions_{month}" for month in ("2025_10", "2025_11", "2025_12", "2026_02")),
        "transactions_default",
    ]
    runbook = (ROOT / "docs" / "runbooks" / "postgresql.md").read_text(encoding="utf-8").split("## DefaultPartitionNotEmpty")[1]
    moving = runbook.split("```sql\n")[1].split("```")[0].replace("ALTER TABLE TABLE", "ALTER TABLE transactions")
    for word, meant in {"TABLE_": "transactions_", "LIKE TABLE": "LIKE transactions", "KEY": "at", "OWNER": server.settings.user}.items():
        moving = moving.replace(word, meant)
    for month, meant in {"2025-11": "2026-02", "2025-10": "2026-01", "2025_10": "2026_01"}.items():
        moving = moving.replace(month, meant)
    with server.session() as session:
        session.script(moving)
    assert clean(server.run(by_month(premake=4, default=True)))
    assert server.ask("SELECT count(*) FROM transactions_2026_01") == "3"


def how_to(block: int) -> list[str]:
    """Return the statements of a block of SQL in docs/how-to/schema.md."""
    text = (ROOT / "docs" / "how-to" / "schema.md").read_text(encoding="utf-8").split("```sql\n")[block].split("```")[0]
    return [statement for statement in re.sub(r"--.*", "", text).split(";") if statement.strip()]


def test_the_table_of_the_how_to(server: Server) -> None:
    server.do(
        *how_to(1),
        "CREATE TABLE users (user_id bigint PRIMARY KEY)",
        "INSERT INTO users VALUES (7)",
        "ALTER TABLE transactions ADD FOREIGN KEY (user_id) REFERENCES users",
    )
    assert not server.run(by_month(), index("i", "transactions", columns=["user_id"])).problems
    server.do("INSERT INTO transactions (user_id, created_at) VALUES (7, '2025-10-15'), (7, '2025-12-15')")
    assert server.names("SELECT id FROM transactions ORDER BY 1") == ["1", "2"]
    with pytest.raises(SqlError, match="violates foreign key"):
        server.do("INSERT INTO transactions (user_id, created_at) VALUES (8, '2025-10-15')")
    keys = server.names("SELECT indexrelid::regclass FROM pg_index WHERE indisprimary AND indrelid = 'transactions_2025_10'::regclass")
    assert keys == ["transactions_2025_10_pkey"]


def test_a_plain_table_becomes_the_first_partition(server: Server) -> None:
    server.do("CREATE TABLE transactions (id bigserial, created_at timestamptz NOT NULL)")
    server.do(
        "INSERT INTO transactions (created_at) SELECT '2025-10-01'::timestamptz + g * interval '1 hour' FROM generate_series(1, 500) g"
    )
    assert "not partitioned" in server.run(by_month()).notices[0]
    server.do(*how_to(2))
    assert len(server.run(by_month()).steps) == 3
    server.do("INSERT INTO transactions (created_at) VALUES ('2025-10-31'), ('2025-11-02')")
    assert server.names("SELECT tableoid::regclass FROM transactions WHERE id > 500") == ["transactions_so_far", "transactions_2025_11"]


def test_hash(server: Server) -> None:
    server.do("CREATE TABLE transactions (id bigint) PARTITION BY HASH (id)")
    wanted = PartitionSpec.read({"database": "", "table": "transactions", "modulus": 8})
    assert len(server.run(wanted).steps) == 8
    server.do("INSERT INTO transactions SELECT generate_series(1, 10000)")
    shares = server.names("SELECT count(*) FROM transactions GROUP BY tableoid")
    assert len(shares) == 8
    assert all(800 < int(share) < 1700 for share in shares)
    assert clean(server.run(wanted))
    assert server.run(replace(wanted, modulus=4)).problems[0][0] == "modulus_differs"
    assert server.run(by_month()).problems[0][0] == "strategy_differs"


def test_what_cannot_be_managed_is_told(server: Server) -> None:
    table(server)
    server.do(
        "CREATE TABLE two (a date, b int) PARTITION BY RANGE (a, b)",
        "CREATE TABLE number (a int) PARTITION BY RANGE (a)",
        "CREATE TABLE expression (a timestamp) PARTITION BY RANGE (date_trunc('day', a))",
    )
    outcome = server.run(*(by_month(table=name) for name in ("t", "gone", "two", "number", "expression")))
    assert [reason for reason, dummy in outcome.problems] == ["unsupported_key"] * 3
    assert len(outcome.notices) == 2
    assert "not partitioned" in outcome.notices[0]


def test_partitions_of_others_are_respected(server: Server) -> None:
    transactions(server)
    server.do(
        "CREATE TABLE whole_year PARTITION OF transactions FOR VALUES FROM ('2025-01-01+00') TO ('2025-12-01+00')",
        "CREATE TABLE half PARTITION OF transactions FOR VALUES FROM ('2025-12-10+00') TO ('2026-01-01+00')",
        "CREATE TABLE transactions_2026_02 (a int)",
    )
    outcome = server.run(by_month(premake=4))
    assert [reason for reason, dummy in outcome.problems] == ["overlap", "name_taken"]
    assert server.partitions() == ["half", "transactions_2026_01", "whole_year"]
    server.do("DROP TABLE transactions_2026_02")
    assert len(server.run(by_month(premake=4)).steps) == 1


# --- scripts, sessions, the program ------------------------------------------------------------------------------------


def test_a_script_runs_once_and_again_when_it_changes(server: Server) -> None:
    script = ScriptSpec("", "seed", "CREATE TABLE IF NOT EXISTS s (a int); INSERT INTO s VALUES (1); SELECT 1;")
    assert len(server.run(script, check=True).steps) == 1
    assert len(server.run(script).steps) == 1
    assert server.run(script) == Outcome()
    assert len(server.run(replace(script, sql=script.sql + "--")).steps) == 1
    assert server.ask("SELECT count(*) FROM s") == "2"


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("CREATE TABLE s (a int); SELECT 1/0", "script_failed"),
        ("SELECT 1; COMMIT; SELECT 2", "left_transaction"),
        ("COPY t FROM STDIN", "script_failed"),
    ],
)
def test_a_script_that_fails_leaves_nothing_and_runs_again(server: Server, sql: str, reason: str) -> None:
    table(server, 0)
    for dummy in range(2):
        outcome = server.run(ScriptSpec("", "seed", sql))
        assert [seen for seen, dummy in outcome.problems] == [reason]
        assert outcome.steps == []


def test_what_a_script_says_is_not_logged(server: Server) -> None:
    server.do("ALTER DATABASE " + f'"{server.database}"' + " SET log_statement = 'all'")
    assert server.run(ScriptSpec("", "a", "SELECT 'very-secret'"), ScriptSpec("", "b", "SELECT 'very-secret', 1/0")).problems
    log = (Path(server.settings.directory) / "log").read_text(encoding="utf-8")
    assert "very-secret" not in log
    assert "uptier.scripts" in log


def test_a_database_that_is_not_there_is_skipped(server: Server) -> None:
    outcome = bring_about(server.settings, NOW, False, [ScriptSpec("nope", "a", "SELECT 1")])
    assert "no such database" in outcome.notices[0]


def test_no_server(server: Server) -> None:
    with pytest.raises(SessionError, match="No server answers at") as caught:
        bring_about(replace(server.settings, port=1), NOW, False, [ScriptSpec("postgres", "a", "SELECT 1")])
    assert caught.value.reason == "not_reachable"
