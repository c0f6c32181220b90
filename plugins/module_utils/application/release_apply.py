# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What app_release does on a host: releases on disk, units, the router's socket, health. Standard library only."""

from __future__ import annotations

import csv
import http.client
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.application.canary import (
    USUAL,
    Count,
    Limits,
    Window,
    count_of,
    judge,
    together,
    weights,
    window,
)
from ansible_collections.uptier.platform.plugins.module_utils.application.deploy import shown
from ansible_collections.uptier.platform.plugins.module_utils.application.release import (
    Plan,
    Seen,
    Service,
    Step,
    argv,
    fingerprint,
    healthy_hint,
    plan,
    prunable,
    release_name,
    server_name,
    sides,
    stand_by,
    standing,
)
from ansible_collections.uptier.platform.plugins.module_utils.host.files import locked, replace_file, replace_link

UNITS = Path("/etc/systemd/system")
MANIFEST = ".release.json"
# In the state of an application on a host: a release of the fleet that has not ended, and the last one that has.
UNFINISHED = "unfinished.json"
DEPLOYED = "deployed.json"
# The last run that has announced a release of the fleet here.
RUN = "run.json"
LOCK_SECONDS = 300
# A busy host lets the router wait for a processor.
ROUTER_SECONDS = 30
# Between two looks at what a new release does with its part of the requests.
LOOK_SECONDS = 1
Run = Callable[..., tuple[int, str, str]]


class ReleaseError(Exception):
    """Something went wrong; `reason` is for machines, the text for people. `holder` is the run that is in the way, if one is."""

    def __init__(self, reason: str, message: str, holder: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.holder = holder


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(value), 0o644)


def read_json(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return default


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_link(path, target)


class Router:
    """The router's socket. A host without a router, or without this server in it, has nothing to drain.

    A router that is there and does not answer is neither: nobody knows where its requests go. Raises ReleaseError.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def ask(self, command: str) -> str:
        if not self.path or not os.path.exists(self.path):
            return ""
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.settimeout(ROUTER_SECONDS)
                control.connect(self.path)
                control.sendall(command.encode() + b"\n")
                return b"".join(iter(lambda: control.recv(65536), b"")).decode()
        except TimeoutError as error:
            raise ReleaseError(
                "router_silent",
                f"The router did not answer `{command}` on {self.path} within {ROUTER_SECONDS} s, so nothing more was drained or switched. "
                "See: systemctl status haproxy. Then run again.",
            ) from error
        except OSError:
            return ""

    def servers(self, backend: str) -> dict[str, dict[str, str]]:
        """Return the router's statistics of a backend by server; the backend itself is BACKEND. Empty without such a backend."""
        rows = csv.DictReader(self.ask("show stat").lstrip("# ").splitlines())
        return {row["svname"]: row for row in rows if row["pxname"] == backend}

    def server(self, backend: str, name: str) -> dict[str, str] | None:
        return self.servers(backend).get(name)

    def weigh(self, backend: str, name: str, weight: int) -> None:
        """Set the weight of a server that is there; one that does not follow is an error."""
        if backend and self.server(backend, name) is not None:
            said = self.ask(f"set server {backend}/{name} weight {weight}").strip()
            if said:
                raise ReleaseError("router_refused", f"The router did not set the weight of {backend}/{name} to {weight}: {said}")

    def put(self, backend: str, name: str, state: str) -> bool:
        """Set a server to ready, drain or maint; tell whether there is such a server."""
        if not backend or self.server(backend, name) is None:
            return False
        self.ask(f"set server {backend}/{name} state {state}")
        return True

    def wait(self, backend: str, name: str, done: Callable[[dict[str, str]], bool], timeout: float) -> bool:
        end = time.monotonic() + timeout
        while True:
            row = self.server(backend, name)
            if row is None or done(row):
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.2)


class Host:
    """One application on this host."""

    def __init__(self, run: Run, options: dict[str, Any]) -> None:
        self.run = run
        self.options = options
        self.name = options["application"]
        self.base = Path("/opt/uptier/apps") / self.name
        self.state = Path("/var/lib/uptier/apps") / self.name
        self.settings = Path("/etc/uptier/apps") / f"{self.name}.env"
        self.router = Router(options["router_socket"])
        self.services = [
            Service(
                item["unit"],
                tuple(item["instances"]),
                item["kind"],
                item["spare"],
                item["port"],
                item["health"],
                item["backend"],
                item["spares"],
            )
            for item in options["services"]
        ]
        self.done: list[str] = []
        self.lock = ExitStack()  # what it has entered is held until the process ends
        self.began = 0

    # -- what is there -------------------------------------------------------------------------------------------

    def releases(self) -> dict[str, dict[str, Any]]:
        folder = self.base / "releases"
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        found = {name: read_json(folder / name / MANIFEST, None) for name in names if not name.startswith(".")}
        return {name: manifest for name, manifest in found.items() if manifest}

    def target(self) -> tuple[str, bool]:
        present = {name: manifest["checksum"] for name, manifest in self.releases().items()}
        stands = standing(self.options["version"], self.options["declared"], self.deployed())
        if stands and stands in present:
            return stands, True
        return release_name(self.options["version"], self.options["checksum"], present)

    def current(self) -> str:
        return self.linked("current")

    def linked(self, name: str) -> str:
        """Return the release to which a link beside the releases points; `previous` is the one before the current one."""
        path = self.base / name
        return os.path.basename(os.readlink(path)) if path.is_symlink() else ""

    def origin(self) -> str | None:
        """Return what this host ran before a release of the fleet that has not ended; None where none is under way."""
        return read_json(self.state / UNFINISHED, {}).get("from")

    def deployed(self) -> dict[str, str]:
        """Return {declared, release}: what the inventory said when a release was made by name the last time, and which it was."""
        found: dict[str, str] = read_json(self.state / DEPLOYED, {})
        return found

    def instance_link(self, unit: str, instance: int) -> Path:
        return self.base / "instances" / f"{unit}@{instance}"

    def record(self, unit: str, instance: int) -> Path:
        return self.state / f"{unit}@{instance}.json"

    def seen(self) -> dict[str, dict[int, Seen]]:
        folder = self.base / "instances"
        known = {(service.unit, instance) for service in self.services for instance in service.instances}
        for entry in os.listdir(folder) if folder.is_dir() else []:
            unit, at, instance = entry.rpartition("@")
            if at and instance.isdigit() and not entry.startswith("."):
                known.add((unit, int(instance)))
        found: dict[str, dict[int, Seen]] = {}
        for unit, instance in sorted(known):
            path = self.instance_link(unit, instance)
            facts = self.facts(f"{unit}@{instance}.service")
            if not path.is_symlink() and facts["ActiveState"] != "active":
                continue
            found.setdefault(unit, {})[instance] = Seen(
                active=facts["ActiveState"] in ("active", "activating", "reloading"),
                enabled=facts["UnitFileState"] == "enabled",
                release=os.path.basename(os.readlink(path)) if path.is_symlink() else "",
                fingerprint=read_json(self.record(unit, instance), {}).get("fingerprint", ""),
            )
        return found

    def facts(self, unit: str) -> dict[str, str]:
        wanted = "ActiveState,SubState,UnitFileState,NRestarts,Result"
        dummy, out, dummy = self.run(["systemctl", "show", unit, f"--property={wanted}"])
        values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return {key: values.get(key, "") for key in wanted.split(",")}

    def fingerprints(self, release: str) -> dict[str, str]:
        settings = read(self.settings)
        return {service.unit: fingerprint(release, [read(UNITS / f"{service.unit}@.service"), settings]) for service in self.services}

    def plan(self, release: str) -> Plan:
        return plan(self.services, release, self.fingerprints(release), self.seen(), self.options.get("beside", False))

    def standing_by(self, release: str) -> Plan:
        return stand_by(self.services, release, self.fingerprints(release), self.seen())

    def unmigrated(self, release: str) -> bool:
        return bool(self.options["migrate"]) and release not in read_json(self.state / "migrated.json", [])

    # -- prepare -------------------------------------------------------------------------------------------------

    def user_missing(self) -> bool:
        return self.run(["getent", "passwd", self.name])[0] != 0

    def make_user(self) -> None:
        path = Path("/etc/sysusers.d") / f"uptier-app-{self.name}.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'# Made by the role app.\nu {self.name} - "application {self.name}" /nonexistent /usr/sbin/nologin\n', encoding="utf-8"
        )
        code, out, err = self.run(["systemd-sysusers", str(path)])
        if code:
            raise ReleaseError("no_user", f"The system user {self.name} could not be created: {(err or out).strip()}")
        self.done.append(f"created user {self.name}")

    def unpack(self, archive: str, release: str) -> None:
        """Unpack beside and rename: a release is there whole or not at all."""
        folder = self.base / "releases"
        folder.mkdir(parents=True, exist_ok=True)
        work = folder / f".{release}.new"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        old = os.umask(0o022)
        try:
            code, out, err = self.run(["tar", "-xf", archive, "-C", str(work), "--no-same-owner", "--no-same-permissions"])
        finally:
            os.umask(old)
        if code:
            shutil.rmtree(work, ignore_errors=True)
            raise ReleaseError("bad_archive", f"The release {release} could not be unpacked: {(err or out).strip()}")
        os.chmod(work, 0o755)
        (work / ".release.env").write_text(f'APP_VERSION="{self.options["version"]}"\n', encoding="utf-8")
        manifest = {"version": self.options["version"], "checksum": self.options["checksum"], "unpacked_at": time.time()}
        write_json(work / MANIFEST, manifest)
        shutil.rmtree(folder / release, ignore_errors=True)
        os.replace(work, folder / release)
        self.done.append(f"unpacked {release}")

    # -- switch --------------------------------------------------------------------------------------------------

    def take_lock(self) -> None:
        """Wait for a release that is under way: also one whose run was killed goes on here to its end."""
        self.state.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.enter_context(locked(self.state / "lock", LOCK_SECONDS))
        except BlockingIOError:
            raise ReleaseError(
                "locked",
                f"Another run has been releasing {self.name} on this host for more than {LOCK_SECONDS} s. "
                f"lslocks shows which process holds {self.state / 'lock'}.",
            ) from None

    def migrate(self, release: str) -> None:
        options = [
            f"--property=User={self.name}",
            f"--property=WorkingDirectory={self.base / 'releases' / release}",
            f"--property=EnvironmentFile={self.settings}",
            f"--property=EnvironmentFile=-{self.settings.with_suffix('.migrate.env')}",
            f"--property=RuntimeMaxSec={self.options['migrate_timeout']}",
            "--property=NoNewPrivileges=yes",
            "--property=ProtectSystem=strict",
            "--property=PrivateTmp=yes",
        ]
        unit = f"uptier-migrate-{self.name}"
        end = time.monotonic() + self.options["migrate_timeout"]
        while self.facts(f"{unit}.service")["ActiveState"] in ("active", "activating"):
            # Started by a run that was killed; it goes on by itself.
            if time.monotonic() > end:
                raise ReleaseError(
                    "migration_failed", f"An earlier migration of {self.name} is still running; see: systemctl status {unit}"
                )
            time.sleep(1)
        command = argv(self.options["migrate"], str(self.base / "releases" / release))
        # Variables in the command are those of the application, not of this process.
        code, out, err = self.run(
            ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={unit}", *options, *command], expand_user_and_vars=False
        )
        if code:
            lines = "\n".join((out + err).strip().splitlines()[-20:]) or "no output"
            raise ReleaseError(
                "migration_failed",
                f"The migration of {self.name} {release} ended with {code}; no instance was touched, the previous release keeps running. "
                f"Its last lines:\n{lines}",
            )
        write_json(self.state / "migrated.json", [*read_json(self.state / "migrated.json", []), release])
        self.done.append(f"migrated to {release}")

    def apply(self, planned: Plan, release: str) -> None:
        marks = self.fingerprints(release)
        tried: list[Step] = []
        for step in planned.steps:
            try:
                getattr(self, f"do_{step.action}")(step, release)
            except ReleaseError:
                for other in tried:
                    self.do_retire(other, release)
                raise
            if step.action in ("try", "stand"):
                tried.append(step)
            elif step.action == "retire":
                tried = [other for other in tried if other.service is not step.service]
            if step.action in ("replace", "start", "stand"):
                write_json(self.record(step.service.unit, step.instance), {"release": release, "fingerprint": marks[step.service.unit]})
            self.done.append(str(step))

    def announce(self) -> None:
        """Tell runs that are not dead, but slow, that this one has come after them."""
        if not self.options["commit"]:
            write_json(self.state / RUN, {"id": self.options["run"]})

    def begin(self) -> None:
        """Remember what this host runs until the release has ended on all hosts; a second run remembers what the first one did.

        Raises:
            ReleaseError: a later run has announced itself. A controller that is killed leaves this process behind, which waits
                for the host's lock, and must not undo what was done meanwhile.
        """
        if self.options["commit"]:
            return
        self.still_mine("this one has changed nothing here")
        origin = self.origin()
        until = {"until": time.time() + self.options["seconds"], "holder": self.options["holder"]}
        write_json(self.state / UNFINISHED, {"from": self.current() if origin is None else origin, **until})

    def keep_out(self) -> None:
        """Leave a host alone on which a release of the fleet is under way, or was until lately.

        Raises:
            ReleaseError: so it is, and its holder is not known to be dead.
        """
        found = read_json(self.state / UNFINISHED, {})
        holder = found.get("holder")
        if not self.options["commit"] or not holder or found["until"] <= time.time() or holder["id"] == self.options["dead"]:
            return
        raise ReleaseError(
            "under_way",
            f"{self.name} is being released by name by {holder['who']} on {holder['controller']} (process {holder['process']}), and this host takes "
            f"part. Wait until that has ended. Should that run be dead, run deploy.yml or rollback.yml; runs on {holder['controller']} know it "
            f"by themselves, others at {shown(found['until'])}.",
            holder,
        )

    def still_mine(self, left: str) -> None:
        """Raise a ReleaseError where a later run has announced itself here; `left` says what this one leaves."""
        if read_json(self.state / RUN, {"id": self.options["run"]})["id"] != self.options["run"]:
            raise ReleaseError("superseded", f"A later run is at work on {self.name} on this host; {left}.")

    def finish(self, release: str) -> None:
        former = self.current()
        if former != release:
            link(self.base / "current", f"releases/{release}")
            self.done.append(f"current is {release}")
        if self.options["commit"]:
            self.commit(former)
        self.remove_jobs()
        self.prune()

    def former_jobs(self) -> list[str]:
        """Return the units of jobs that have a timer on this host, and are none of the application's any more."""
        wanted = self.options.get("jobs")
        if wanted is None:
            return []
        mark = f"X-Application={self.name}\n"  # of the role's template: another unit may have a name that begins like ours
        return [path.stem for path in sorted(UNITS.glob(f"{self.name}-*.timer")) if path.stem not in wanted and mark in read(path)]

    def remove_jobs(self) -> None:
        """Remove jobs that the application has no more. One that runs comes to its end."""
        former = self.former_jobs()
        for unit in former:
            self.systemctl("disable", "--now", f"{unit}.timer")
            # The timer goes last: while it is there, a run that is killed here is finished by the next one.
            (UNITS / f"{unit}.service").unlink(missing_ok=True)
            (UNITS / f"{unit}.timer").unlink(missing_ok=True)
            self.done.append(f"remove {unit}.timer")
        if former:
            self.systemctl("daemon-reload")

    def at_work(self) -> set[str]:
        """Return the releases in which a process works: a job keeps the one that was current when it began."""
        folder, found = f"{self.base / 'releases'}/", set()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                place = os.readlink(process / "cwd")
            except OSError:  # it has ended
                continue
            if place.startswith(folder):
                found.add(place.removeprefix(folder).partition("/")[0])
        return found

    def commit(self, former: str) -> None:
        """End a release that stays: `former` is what this host ran, unless a release that did not end began with something else."""
        origin = self.origin()
        before = former if origin is None else origin
        if before and before != self.current():
            link(self.base / "previous", f"releases/{before}")
        (self.state / UNFINISHED).unlink(missing_ok=True)

    def stop(self) -> None:
        """Drain and stop every instance; each keeps its release, and runs it again when it is started."""
        for unit, instances in self.seen().items():
            service = next((one for one in self.services if one.unit == unit), Service(unit, (), kind="worker"))
            for instance, state in instances.items():
                if state.active:
                    step = Step("stop", service, instance)
                    self.drain(step)
                    self.systemctl("stop", step.unit)
                    self.done.append(str(step))

    def prune(self) -> None:
        used = {state.release for instances in self.seen().values() for state in instances.values()}
        used |= {self.current(), self.linked("previous"), self.origin() or "", *self.at_work()}
        moments = [(name, float(manifest.get("unpacked_at", 0))) for name, manifest in self.releases().items()]
        for name in prunable(moments, self.options["keep"], used):
            shutil.rmtree(self.base / "releases" / name, ignore_errors=True)
            self.done.append(f"removed release {name}")

    def do_try(self, step: Step, release: str) -> None:
        self.beside(step, release, serves=True)

    def do_stand(self, step: Step, release: str) -> None:
        self.beside(step, release, serves=False)

    def beside(self, step: Step, release: str, serves: bool) -> None:
        """Start a spare instance with a release; where it does not get healthy, nothing of it is left."""
        path = self.instance_link(step.service.unit, step.instance)
        if self.facts(step.unit)["ActiveState"] == "active":
            self.drain(step)  # left over by a run that was killed, and serving since
        self.router.put(step.service.backend, server_name(step.instance), "maint")
        self.router.weigh(step.service.backend, server_name(step.instance), USUAL)
        link(path, f"../releases/{release}")
        self.record(step.service.unit, step.instance).unlink(missing_ok=True)
        try:
            self.restart(step)
            self.healthy(step, release)
            if serves:
                self.into_service(step)
        except ReleaseError:
            self.drain(step)
            self.systemctl("stop", step.unit)
            self.router.put(step.service.backend, server_name(step.instance), "maint")
            path.unlink()
            raise

    def do_replace(self, step: Step, release: str) -> None:
        path = self.instance_link(step.service.unit, step.instance)
        self.drain(step)
        link(path, f"../releases/{release}")
        self.record(step.service.unit, step.instance).unlink(missing_ok=True)
        try:
            self.restart(step)
            self.healthy(step, release)
            self.enable(step)
            self.into_service(step)
        except ReleaseError:
            if step.previous and step.previous != release and (self.base / "releases" / step.previous).is_dir():
                self.drain(step)
                link(path, f"../releases/{step.previous}")
                self.restart(step)
            self.into_service(step, must=False)
            raise

    def do_start(self, step: Step, release: str) -> None:
        link(self.instance_link(step.service.unit, step.instance), f"../releases/{release}")
        self.run(["systemctl", "reset-failed", step.unit])
        self.enable(step)
        self.restart(step)
        self.healthy(step, release)
        self.into_service(step)

    def do_retire(self, step: Step, release: str) -> None:
        self.do_remove(step, release)
        self.router.put(step.service.backend, server_name(step.instance), "maint")
        self.router.weigh(step.service.backend, server_name(step.instance), USUAL)

    def do_remove(self, step: Step, dummy: str) -> None:
        self.drain(step)
        self.systemctl("disable", "--now", step.unit)
        self.instance_link(step.service.unit, step.instance).unlink(missing_ok=True)
        self.record(step.service.unit, step.instance).unlink(missing_ok=True)

    # -- beside the old ones -------------------------------------------------------------------------------------

    def sides(self, release: str) -> list[tuple[Service, list[int], list[int]]]:
        """Return of each routed service the instances of before, and the spare ones that stand by with a release.

        Raises:
            ReleaseError: the router does not know one of them.
        """
        found = []
        for service, old, new in sides(self.services, release, self.fingerprints(release), self.seen()):
            servers = self.router.servers(service.backend)
            lacking = [server_name(key) for key in new if servers and server_name(key) not in servers]
            if lacking:
                raise ReleaseError(
                    "unknown_server",
                    f"The router does not know {', '.join(lacking)} of {service.backend} yet: run the application layer of the tier "
                    "(--tags application) first.",
                )
            found.append((service, old, new))
        return found

    def shift(self, release: str) -> None:
        """Send all requests to the instances that stand by. The old ones are drained and keep running, so that they can be had back."""
        groups = self.sides(release)
        for service, dummy, new in groups:
            for key in new:
                self.into_service(Step("shift", service, key))
        for service, old, new in groups:
            for key in old:
                self.router.put(service.backend, server_name(key), "drain")
            self.done.append(f"shift {service.unit} to {', '.join(map(str, new))}")
        end = time.monotonic() + self.options["drain_timeout"]
        for service, old, dummy in groups:
            for key in old:
                left = max(0.0, end - time.monotonic())
                self.router.wait(service.backend, server_name(key), lambda row: int(row["scur"] or 0) == 0, left)

    def weigh(self, release: str, share: int) -> None:
        """Give instances that stand by a part of the requests, in percent; 0 takes it from them at once."""
        for service, old, new in self.sides(release):
            algorithm = self.router.servers(service.backend).get("BACKEND", {}).get("algo", "")
            if algorithm not in ("", "roundrobin"):
                raise ReleaseError(
                    "unknown_server",
                    f"The router balances {service.backend} by {algorithm}, which does not split requests by weight: run the application "
                    "layer of the tier (--tags application) first.",
                )
            of_old, of_new = weights(share, len(old), len(new)) if share else (USUAL, 0)
            for key in new:
                self.router.weigh(service.backend, server_name(key), of_new)
            for key in old if share else ():
                self.router.weigh(service.backend, server_name(key), of_old)
            for key in new if share else ():
                self.into_service(Step("share", service, key))
            for key in old if share else ():
                # A run that was killed has given all requests to the new ones.
                if (self.router.server(service.backend, server_name(key)) or {"status": ""})["status"].startswith("DRAIN"):
                    self.into_service(Step("share", service, key), must=False)

    def compare(self, release: str, share: int, limits: Limits, seconds: float, patience: float) -> tuple[Window, Window]:
        """Watch a part of the requests; return what the old and the new release did with theirs in the same time.

        Ends when both had enough requests and `seconds` are over, or after `patience` seconds, whatever there was.

        Raises:
            ReleaseError: the new release is worse. It gets no more requests.
        """
        groups = self.sides(release)
        begin, start = self.counts(groups), time.monotonic()
        self.began = int(time.time())
        while True:
            time.sleep(LOOK_SECONDS)
            # Whoever comes after a controller that was killed need not wait until this has seen enough.
            self.still_mine(f"this one has left {share} % of the requests to {release}")
            found, passed = {}, time.monotonic() - start
            now = self.counts(groups)
            for service, old, new in groups:
                both = tuple(
                    together(window(begin[service.unit, key], now[service.unit, key]) for key in side if (service.unit, key) in now)
                    for side in (old, new)
                )
                found[service.unit] = both
                verdict, why = judge(both[0], both[1], limits)
                if verdict == "bad":
                    self.weigh(release, 0)
                    told = self.log(Step("share", service, new[0]))
                    raise ReleaseError("canary", f"With {share} % of the requests for {service.unit}, {why}; it gets none any more. {told}")
            old_window, new_window = (together(both[side] for both in found.values()) for side in (0, 1))
            enough = judge(old_window, new_window, limits)[0] == "good" and passed >= seconds
            if enough or passed >= patience or not groups:
                self.done.append(f"share {share} %: {new_window}; old {old_window}")
                return old_window, new_window

    def counts(self, groups: Iterable[tuple[Service, list[int], list[int]]]) -> dict[tuple[str, int], Count]:
        """Return what the router has counted so far, by unit and instance."""
        found = {}
        for service, old, new in groups:
            servers = self.router.servers(service.backend)
            rows = {key: servers.get(server_name(key)) for key in (*old, *new)}
            found |= {(service.unit, key): count_of(row) for key, row in rows.items() if row}
        return found

    # -- the means -----------------------------------------------------------------------------------------------

    def undrained(self) -> list[Step]:
        """Return the instances that the router leaves out, or gives another part of the requests than the others.

        Either a run which was killed has left them so, or this release has drained them, or weighed them.
        """
        found = []
        for service in self.services:
            servers = self.router.servers(service.backend) if service.kind == "web" and service.backend else {}
            for instance in service.instances:
                row = servers.get(server_name(instance))
                if row and (row["status"].startswith("DRAIN") or row["weight"] not in ("", "0", str(USUAL))):
                    found.append(Step("put back", service, instance))
        return found

    def put_back(self, all_but: Plan | None = None) -> None:
        """Have the router treat all instances alike again; not those that a plan has something else to do with."""
        busy = {step.unit for step in all_but.steps} if all_but else set()
        for step in self.undrained():
            if step.unit not in busy:
                self.router.weigh(step.service.backend, server_name(step.instance), USUAL)
                self.into_service(step, must=False)
                self.done.append(str(step))

    def systemctl(self, *arguments: str) -> None:
        code, out, err = self.run(["systemctl", "--quiet", *arguments])
        if code:
            raise ReleaseError("unit_failed", f"systemctl {' '.join(arguments)} ended with {code}: {(err or out).strip()}")

    def enable(self, step: Step) -> None:
        if self.facts(step.unit)["UnitFileState"] != "enabled":
            self.systemctl("enable", step.unit)

    def restart(self, step: Step) -> None:
        self.began = int(time.time())
        try:
            self.systemctl("restart", step.unit)
        except ReleaseError as error:
            raise ReleaseError("unit_failed", f"{error}\n{self.log(step)}") from error

    def drain(self, step: Step) -> None:
        name = server_name(step.instance)
        if step.service.kind == "web" and self.router.put(step.service.backend, name, "drain"):
            # Open websockets do not end by themselves; the application closes them when it is stopped.
            self.router.wait(step.service.backend, name, lambda row: int(row["scur"] or 0) == 0, self.options["drain_timeout"])

    def into_service(self, step: Step, must: bool = True) -> None:
        """Have the router send requests to an instance.

        Raises:
            ReleaseError: the router's own questions find it unhealthy; to go on would take one instance after the other away.
                Not where `must` is false: what ran before is better than nothing.
        """
        name, seconds = server_name(step.instance), self.options["healthy_timeout"]
        if step.service.kind != "web" or not self.router.put(step.service.backend, name, "ready"):
            return
        if not self.router.wait(step.service.backend, name, lambda row: row["status"].startswith(("UP", "no check")), seconds) and must:
            row = self.router.server(step.service.backend, name) or {}
            raise ReleaseError(
                "unhealthy",
                f"{self.name} on {step.unit} is healthy, but the router does not find it so within {seconds} s: its state is "
                f"{row.get('status', 'unknown')} ({row.get('check_desc', '')}, {row.get('last_chk', '')}). {self.log(step)}",
            )

    def healthy(self, step: Step, release: str) -> None:
        """Wait for two good answers in a row; a worker without a health path must stay up for a while."""
        service, begin = step.service, time.monotonic()
        asks = bool(service.health and service.port)
        restarts, good, last = int(self.facts(step.unit)["NRestarts"] or 0), 0, "not asked yet"
        while True:
            facts = self.facts(step.unit)
            if facts["ActiveState"] == "failed" or int(facts["NRestarts"] or 0) >= restarts + 3:
                raise self.unhealthy(step, release, f"its process ended ({facts['Result']}, started {facts['NRestarts']} times)")
            if asks:
                status, error = self.probe(step.instance, service.health)
                good = good + 1 if status == 200 else 0
                last = healthy_hint(status, error)
                if good >= 2:
                    return
            elif (
                time.monotonic() - begin > self.options["settle"] and facts["SubState"] == "running" and facts["NRestarts"] == str(restarts)
            ):
                return
            if time.monotonic() - begin > self.options["healthy_timeout"]:
                last = last if asks else f"its process does not stay up (state {facts['ActiveState']}, {facts['SubState']})"
                raise self.unhealthy(step, release, last)
            time.sleep(0.3)

    def probe(self, port: int, path: str) -> tuple[int | None, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request(
                "GET", path, headers={"Host": self.options["host_header"], "X-Forwarded-Proto": "https", "Connection": "close"}
            )
            answer = connection.getresponse()
            return answer.status, answer.read(500).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return None, str(error)
        finally:
            connection.close()

    def log(self, step: Step) -> str:
        command = ["journalctl", "--no-pager", "--output=cat", "--lines=30", f"--since=@{self.began}"]
        dummy, out, dummy = self.run([*command, f"_SYSTEMD_UNIT={step.unit}"])
        if not out.strip():
            # The process said nothing; what systemd says about it is better than that.
            dummy, out, dummy = self.run([*command, f"--unit={step.unit}"])
        return "Its last lines:\n" + (out.strip() or "(none)")

    def unhealthy(self, step: Step, release: str, what: str) -> ReleaseError:
        kept = "the instances that are not updated yet keep their release" if step.action != "start" else "it was not running before"
        return ReleaseError(
            "unhealthy",
            f"{self.name} {release} did not become healthy on {step.unit} within {self.options['healthy_timeout']} s, {kept}: "
            f"{what}. {self.log(step)}",
        )
