# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make running Redis processes take over their files: live where Redis can, by a restart that costs no slot where not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis import config
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node, Refusal, View
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import DENIED, Dial, ask
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import RespError, Unreachable

# Why a process that runs cannot be told anything: its certificate is not accepted, or it knows no password of ours.
LOCKED = ("tls", "denied")


@dataclass
class Files:
    """What the processes of one host shall run with."""

    settings: dict[str, str]
    users: dict[str, list[str]]
    read_at_start: list[float] = field(default_factory=list)  # when files that a process reads only once were written


@dataclass
class Report:
    """What was done or, in check mode, would be."""

    applied: list[str] = field(default_factory=list)
    failed_over: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)


class Instance:
    """One Redis process of this host."""

    def __init__(
        self,
        node: Node,
        files: Files,
        dials: list[Dial],
        restart: Callable[[int], None],
        timeout: float = 120,
        check: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        keep: bool = False,
    ) -> None:
        """`keep` has the process accept the passwords that it accepted before besides."""
        self.keep = keep
        self.node, self.files, self.dials, self.restart = node, files, dials, restart
        self.timeout, self.check, self.clock, self.sleep = timeout, check, clock, sleep
        self.report = Report()

    def dial(self, address: str, port: int) -> Any:
        """Log in with the password of this run, else with the one that worked last."""
        for number, one in enumerate(self.dials, 1):
            try:
                return one(address, port)
            except RespError as error:
                if error.code not in DENIED or number == len(self.dials):
                    raise
        raise Unreachable("network", "no way to log in was given")

    def settings(self) -> dict[str, str]:
        with self.dial(self.node.address, self.node.port) as connection:
            answer = connection.call("CONFIG", "GET", "*")
        return dict(zip(answer[::2], answer[1::2], strict=True))

    def apply(self) -> None:
        """Set what differs, the users and the certificates without a restart."""
        if not self.check:
            self._until(self._answers, "not_running", "does not answer")
        view = self.view()
        if view.trouble in LOCKED and not self.check:
            # It serves nobody who verifies it, or nobody can tell it anything: only a start with its new files helps.
            self.report.restarted.append(f"{self.node.label} ({view.problem})")
            self.restart(self.node.port)
            self._until(lambda: self.view().problem, "not_running", "does not answer after its restart")
        if self.check and not view.reachable:
            return
        try:
            running = self.settings()
            with self.dial(self.node.address, self.node.port) as connection:
                self._apply(connection, running)
        except (Unreachable, RespError) as error:
            raise Refusal("setting_refused", f"{self.node.label} refuses its new settings: {error}.", self.node.label) from error

    def _answers(self) -> str:
        view = self.view()
        return "" if view.trouble in LOCKED else view.problem

    def _apply(self, connection: Any, running: dict[str, str]) -> None:
        differ = config.differing(self.files.settings, running)
        names = [name for name in differ if name not in config.TLS_FILES]
        if self.check:
            self.report.applied += [f"{self.node.label} {text}" for text in config.show(differ, self.files.settings, running)]
            return
        for name in names:
            try:
                connection.call("CONFIG", "SET", name, differ[name])
            except RespError as error:
                if "immutable" not in str(error):
                    raise
                continue
            self.report.applied += [f"{self.node.label} {text}" for text in config.show([name], differ, running)]
        tls = [word for name in config.TLS_FILES if name in self.files.settings for word in (name, self.files.settings[name])]
        if tls:
            connection.call("CONFIG", "SET", *tls)
        before = connection.call("ACL", "LIST")
        users = config.with_former(self.files.users, config.parse_acl("\n".join(before))) if self.keep else self.files.users
        for command in config.acl_commands(users, connection.call("ACL", "USERS")):
            connection.call(*command)
        if sorted(before) != sorted(connection.call("ACL", "LIST")):
            self.report.applied.append(f"{self.node.label} users")

    def retire(self) -> None:
        """Accept no password any longer that the file does not have."""
        try:
            with self.dial(self.node.address, self.node.port) as connection:
                users = config.former(self.files.users, config.parse_acl("\n".join(connection.call("ACL", "LIST"))))
                self.report.applied += [f"{self.node.label} former passwords of {', '.join(users)}"] if users else []
                if not self.check:
                    for user in users:
                        connection.call("ACL", "SETUSER", user, "reset", *self.files.users[user])
        except (Unreachable, RespError) as error:
            text = f"{self.node.label} could not be told to accept former passwords no longer: {error}. Run it again."
            raise Refusal("setting_refused", text, self.node.label) from error

    def needs_restart(self) -> str:
        """Say why only a restart helps, or nothing."""
        try:
            running = self.settings()
            with self.dial(self.node.address, self.node.port) as connection:
                now = int(connection.call("TIME")[0])
            uptime = int(self.view().facts.get("uptime_in_seconds", 0))
        except (Unreachable, RespError) as error:
            return str(error)
        differ = config.differing(self.files.settings, running)
        if differ:
            return "; ".join(config.show(differ, self.files.settings, running))
        return "its unit is newer than the process" if config.outdated(now - uptime, self.files.read_at_start) else ""

    def view(self) -> View:
        return ask(self.node, self.dial)

    def roll(self, roles: str) -> None:
        """Restart when needed: with `replicas` only a replica, with `all` a master too, after another node has taken over."""
        why = self.needs_restart()
        if not why:
            return
        view = self.view()
        leads = view.reachable and bool(view.me.slots)
        # What cannot be asked may lead, so it waits for the second round as the masters do.
        if roles == "replicas" and (leads or not view.reachable):
            return
        self.report.restarted.append(f"{self.node.label} ({why})")
        if self.check:
            return
        if leads:
            self._hand_over(view)
        self.restart(self.node.port)
        self._until(self._sound, "not_healthy", "did not come back healthy after its restart")
        if self.node.label in self.report.failed_over:
            self._until(self._take_back, "not_healthy", "did not get its slots back after its restart")

    def _hand_over(self, view: View) -> None:
        followers = [peer for peer in view.peers.values() if peer.master == view.id]
        if not followers:
            return  # the only holder of its slots by declaration: there is nobody to take over
        self.report.failed_over.append(self.node.label)

        def handed_over() -> str:
            now = self.view()
            if now.reachable and not now.me.slots:
                return ""
            fit = [peer for peer in now.peers.values() if peer.master == now.id and not peer.failed and peer.linked]
            problem = "none of its replicas is up"
            for peer in fit:
                try:
                    with self.dial(peer.address, peer.port) as connection:
                        connection.call("CLUSTER", "FAILOVER")
                    return self._brief(lambda: not self.view().me.slots) or f"{peer.address}:{peer.port} does not take over"
                except (RespError, Unreachable) as error:
                    problem = f"{peer.address}:{peer.port}: {error}"
            return problem

        self._until(handed_over, "no_healthy_replica", "was not restarted, because no replica could take over its slots")

    def _take_back(self) -> str:
        """Lead again, so that a rollout does not gather the masters on few hosts: whoever leads most of them must not die."""
        if self.view().me.slots:
            return ""
        try:
            with self.dial(self.node.address, self.node.port) as connection:
                connection.call("CLUSTER", "FAILOVER")
        except (RespError, Unreachable) as error:
            return str(error)
        return self._brief(lambda: bool(self.view().me.slots))

    def _brief(self, done: Callable[[], bool]) -> str:
        end = self.clock() + 6  # an attempt of Redis itself ends after five seconds
        while not done():
            if self.clock() >= end:
                return "no failover within 6 s"
            self.sleep(0.1)
        return ""

    def _sound(self) -> str:
        view = self.view()
        if not view.reachable:
            return view.problem
        if view.me.master and not view.link_up:
            return "no link to its master yet"
        # A node that is in no cluster yet has nobody to agree with.
        return "" if view.state == "ok" or len(view.peers) < 2 else f"cluster_state:{view.state}"

    def _until(self, complaint: Callable[[], str], reason: str, what: str) -> None:
        end = self.clock() + self.timeout
        while wrong := complaint():
            if self.clock() >= end:
                raise Refusal(
                    reason,
                    f"{self.node.label} {what} (waited {self.timeout:g} s; last: {wrong}). Nothing else was restarted. "
                    f"See the journal of redis-node@{self.node.port} and run again.",
                    self.node.label,
                )
            self.sleep(0.2)
