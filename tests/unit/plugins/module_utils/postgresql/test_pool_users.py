# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The file of PgBouncer's users, and the order in which passwords change; role_pools has a real server and clients that go on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import pool_users, pool_users_apply
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pool_users import client_name, entries, former, parse, render
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pool_users_apply import Database, Pools
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import SessionError
from hypothesis import given
from hypothesis import strategies as st

WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=40)
OLD, NEW = "the former one", 'the "new" one'
ADMIN = {"platform_admin": "admin"}


@given(st.dictionaries(WORDS, WORDS, max_size=5))
def test_what_is_written_is_read_back(given_entries: dict[str, str]) -> None:
    assert parse(render(given_entries)) == given_entries


@pytest.mark.parametrize("word", ["two\nlines", "secret\x00word"])
def test_what_the_file_cannot_hold_is_refused_and_not_shown(word: str) -> None:
    with pytest.raises(PostgresqlError) as caught:
        render({"shop": word})
    assert word not in str(caught.value)


def test_a_client_name_goes_with_its_password_and_says_little_of_it() -> None:
    assert client_name("shop", OLD) != client_name("shop", NEW)
    assert client_name("shop", OLD) == client_name("shop", OLD)
    assert client_name("shop", OLD).startswith("shop.")
    assert len(client_name("shop", OLD)) == len("shop.") + 4


def test_former_passwords_are_kept_until_they_are_retired() -> None:
    first = entries({"shop": OLD}, ADMIN, {}, {})
    assert first == {"shop": OLD, client_name("shop", OLD): OLD, **ADMIN}
    meanwhile = entries({"shop": NEW}, ADMIN, first, {"shop": OLD})
    assert meanwhile == {"shop": OLD, client_name("shop", NEW): NEW, client_name("shop", OLD): OLD, **ADMIN}
    changed = entries({"shop": NEW}, ADMIN, meanwhile, {})
    assert changed == {**meanwhile, "shop": NEW}
    assert entries({"shop": NEW}, ADMIN, changed, {}, keep=False) == {"shop": NEW, client_name("shop", NEW): NEW, **ADMIN}


def test_what_is_kept_are_passwords_of_users_that_there_are() -> None:
    seen = {"shop": OLD, client_name("shop", OLD): OLD, client_name("gone", OLD): OLD, "shop.0000": "of another name", **ADMIN}
    assert former({"shop": NEW}, seen) == {client_name("shop", OLD): OLD}
    assert pool_users.differing({"shop": NEW, "added": NEW}, seen) == ["shop"]


def test_each_user_opens_the_pools_of_its_own_database_alone() -> None:
    names = [*entries({"shop": OLD, "shop_ro": OLD, "blog": NEW}, ADMIN, {}, {}), client_name("shop", NEW)]
    pools = [("shop", "shop", "shop"), ("shop_ro", "shop", "shop_ro"), ("blog", "blog", "blog"), ("empty", "empty", "nobody")]
    text = pool_users.access(pools, names, ADMIN)
    allowed = {tuple(line.split()[1:3]) for line in text.splitlines()}
    shop = ",".join(
        f'"{name}"' for name in sorted(["shop", "shop_ro", client_name("shop", OLD), client_name("shop", NEW), client_name("shop_ro", OLD)])
    )
    blog = ",".join(f'"{name}"' for name in ["blog", client_name("blog", NEW)])
    assert allowed == {('"shop","shop_ro"', shop), ('"blog"', blog), ('"pgbouncer"', '"platform_admin"')}
    # From the socket and from every address, and never without a password.
    assert [line.split()[0] for line in text.splitlines()] == ["local", "host", "host"] * 3
    assert all(line.endswith(" scram-sha-256") for line in text.splitlines())
    with pytest.raises(PostgresqlError, match="Choose another one"):
        pool_users.access([('a"b', "a", "shop")], names, ADMIN)


class Server:
    """What a server takes; `dead` answers nobody."""

    def __init__(self, password: str, dead: bool = False) -> None:
        self.password, self.dead, self.said = password, dead, []  # type: ignore[var-annotated]

    def remote(self, dummy: Any, user: str, password: str, where: Any = None) -> Any:
        server = self

        class Remote:
            def accepts(self, dummy: str, word: str) -> bool:
                if server.dead:
                    raise SessionError("not_reachable", "no answer")
                return word == server.password

            def session(self, name: str = "") -> Any:
                return self

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *dummy: object) -> None: ...

            def script(self, text: str) -> None:
                server.said.append(text)

            def execute(self, text: str) -> None:
                server.said.append(text)
                server.password = NEW

        assert user == "shop"
        return Remote()


class Pooler:
    """PgBouncer's pools: what clients say, by pool, and how often each fails to log in to the server at first."""

    def __init__(self, server: Server) -> None:
        self.server = server
        server.events, server.fails = [], 0  # type: ignore[attr-defined]

    def __call__(self, listen: Any, user: str, password: str, seconds: float, name: str, pool: str) -> Any:
        server: Any = self.server

        class Session:
            def script(self, text: str) -> None:
                if text == "SELECT 1" and server.fails:
                    server.fails -= 1
                    server.events.append((pool, "refused"))
                    raise SessionError("refused", "server login has been failing")
                server.events.append((pool, password, text))

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *dummy: object) -> None: ...

        assert (listen, user) == (("127.0.0.1", 6432), "shop")
        return Session()


@pytest.fixture
def pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the pools of a host, whose file has the former password, in front of a server."""

    def make(server: Server, users: dict[str, str], exists: bool = True, check: bool = False) -> Pools:
        monkeypatch.setattr(Pools, "_remote", lambda self, *words: server.remote(self, *words))
        monkeypatch.setattr(pool_users_apply, "Console", Pooler(server))
        monkeypatch.setattr(pool_users_apply.os, "fchown", lambda *words: None)
        monkeypatch.setattr(pool_users_apply, "LOOK_SECONDS", 0)
        path = tmp_path / "userlist.txt"
        if exists and not path.exists():
            path.write_text(render(entries({"shop": OLD}, ADMIN, {}, {})), encoding="utf-8")
        place = ("db.internal", 5000)
        databases = [Database("shop", "shop", "shop"), Database("shop_ro", "shop", "shop", True)]
        reloads: list[str] = []

        def reload() -> None:
            reloads.append("reload")
            events.append("reload")

        events = server.events  # type: ignore[attr-defined]
        found = Pools(str(path), users, ADMIN, databases, place, place, ("127.0.0.1", 6432), "", reload,
                      str(tmp_path / "run/pending"), str(tmp_path / "run/ready"), check=check)  # fmt: skip
        found.reloads = reloads  # type: ignore[attr-defined]
        return found

    return make


def test_the_server_is_told_before_it_is_shown_the_new_password(pools: Any) -> None:
    server = Server(OLD)
    host = pools(server, {"shop": NEW})
    assert host.present(True) == (True, ["shop"])
    assert host.seen()["shop"] == OLD, "the server does not take the new one yet"
    assert host.seen()[client_name("shop", NEW)] == NEW, "instances that have it get in"
    assert host.follow(0) == []
    assert host.seen()["shop"] == OLD, "nobody has changed it: a run that was killed leaves things as they are"
    assert host.alter() == ["shop"]
    assert server.said[0] == "SET default_transaction_read_only = off"
    assert server.said[1].startswith('ALTER ROLE "shop" PASSWORD \'SCRAM-SHA-256$')
    assert NEW not in server.said[1]
    assert host.follow(60) == ["shop"]
    assert host.seen()["shop"] == NEW
    assert host.seen()[client_name("shop", OLD)] == OLD
    assert host.alter() == [], "the next host finds it done"
    assert host.retire() is True
    assert client_name("shop", OLD) not in host.seen()
    assert (host.present(True), host.retire()) == ((False, []), False), "the next run has nothing to do"


def test_what_the_server_takes_already_is_shown_at_once(pools: Any) -> None:
    """A run was killed after the server was told, or somebody else told it."""
    host = pools(Server(NEW), {"shop": NEW})
    assert host.present(False) == (True, [])
    assert host.seen()["shop"] == NEW
    assert client_name("shop", NEW) in Path(host.path).with_name("hba.conf").read_text(encoding="utf-8")


@pytest.mark.parametrize("server", [Server("neither"), Server(OLD, dead=True)], ids=["neither", "dead"])
def test_where_the_server_takes_neither_the_state_layer_goes_first(pools: Any, server: Server) -> None:
    """So it is after a restore to a moment before the change."""
    host = pools(server, {"shop": NEW})
    assert host.present(False)[1] == []
    assert host.seen()["shop"] == OLD
    assert host.alter() == []
    assert host.present(True)[1] == []
    assert host.seen()["shop"] == NEW


def test_without_pools_nothing_is_written(pools: Any) -> None:
    host = pools(Server(NEW), {"shop": NEW}, exists=False)
    assert host.present(False) == (False, [])
    assert not Path(host.path).exists()
    assert host.present(True) == (True, [])


def test_check_mode_writes_nothing(pools: Any) -> None:
    host = pools(Server(OLD), {"shop": NEW}, check=True)
    before = Path(host.path).read_text(encoding="utf-8")
    assert host.present(True) == (True, ["shop"])
    assert Path(host.path).read_text(encoding="utf-8") == before
    assert host.reloads == []
    assert not Path(host.path).with_name("hba.conf").exists()


def test_a_file_that_was_written_and_not_read_is_read_by_the_next_run(pools: Any) -> None:
    def killed() -> None:
        raise KeyboardInterrupt

    host = pools(Server(NEW), {"shop": NEW})
    host.reload = killed
    with pytest.raises(KeyboardInterrupt):
        host.present(True)
    again = pools(Server(NEW), {"shop": NEW})
    assert again.present(True) == (True, [])
    assert again.reloads == ["reload"]
    assert again.present(True) == (False, [])
    assert again.reloads == ["reload"]


def test_no_pool_is_without_a_connection_until_it_has_logged_in_with_the_new_password(pools: Any) -> None:
    """One that tried to log in with the former password after the change there refuses its clients while it has none."""
    server: Any = Server(OLD)
    host = pools(server, {"shop": NEW})
    host.present(True)
    host.alter()
    server.events.clear()
    server.fails = 3
    assert host.follow(60) == ["shop"]
    before = [("shop", OLD, "BEGIN; SELECT 1"), ("shop_ro", OLD, "BEGIN; SELECT 1")]
    after = [("shop", NEW, "SELECT 1"), ("shop_ro", NEW, "SELECT 1"), ("shop", OLD, "ROLLBACK"), ("shop_ro", OLD, "ROLLBACK")]
    assert server.events == [*before, "reload", *[("shop", "refused")] * 3, *after]


@pytest.mark.parametrize("size", [1, 2])
def test_files_are_read_while_each_pool_has_a_connection(pools: Any, size: int) -> None:
    """PgBouncer gives up a login that is under way when it reads them, and takes that for a failed one."""
    server: Any = Server(NEW)
    host = pools(server, {"shop": NEW})
    host.databases = [Database("shop", "shop", "shop", size=size)]
    assert host.present(False) == (True, [])
    begun, ended = ([("shop", OLD, "SELECT 1")], []) if size == 1 else ([("shop", OLD, "BEGIN; SELECT 1")], [("shop", OLD, "ROLLBACK")])
    assert server.events == [*begun, "reload", ("shop", NEW, "SELECT 1"), *ended]


def test_other_files_are_read_alike(pools: Any) -> None:
    """A pool that is new with them, or whose user has no password yet, is not waited for."""
    server: Any = Server(OLD)
    host = pools(server, {"shop": OLD})
    host.databases = [Database("shop", "shop", "shop"), Database("blog", "blog", "blog")]
    before = Path(host.path).read_bytes()
    host.reread()
    assert server.events == [("shop", OLD, "BEGIN; SELECT 1"), "reload", ("shop", OLD, "SELECT 1"), ("shop", OLD, "ROLLBACK")]
    assert Path(host.path).read_bytes() == before


def test_a_server_that_does_not_answer_holds_up_no_reload(pools: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pool would take its seconds, and a host may have dozens."""
    asked: list[str] = []

    def silent(dummy: Any, user: str, password: str, seconds: float, name: str, pool: str) -> Any:
        asked.append(pool)
        time.sleep(seconds)
        raise SessionError("not_reachable", "no answer")

    server: Any = Server(OLD)
    host = pools(server, {"shop": OLD})
    host.databases = [Database(f"shop{number}", "shop", "shop") for number in range(20)]
    monkeypatch.setattr(pool_users_apply, "Console", silent)
    monkeypatch.setattr(pool_users_apply, "BRIEF_SECONDS", 0.05)
    host.reread()
    assert asked == ["shop0"]
    assert server.events == ["reload"]
