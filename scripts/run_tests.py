# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the stages of `make check` and `make test`, and end with a table of what each took.

The scenarios of a platform run one after the other in a lane of their own and come first where processors are scarce, since
their tests measure seconds. All other stages share what is left, two at a time, each as soon as what it needs is there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from lab import processor_seconds
from support import BIN, BUILD, ROOT, Problem, run, say, stop

LOGS = BUILD / "test-logs"
LATEST = ROOT / ".cache" / "venv-latest" / "bin"
BUDGETS = ROOT / "tests" / "budgets.yml"
TAIL = 60
COUNTS = re.compile(r"^(?:=+ )?(?=\d+ (?:passed|failed|error|skipped|xfailed))[^\n]* in [\d.]+s[^\n]*$", re.MULTILINE)
# A line of a difference that Ansible shows is a file's text, not an error.
ERRORS = re.compile(r"(?![+-])(?:ERROR|FATAL|FAILED|fatal:|E  |.*(?:Error|error):)")
# What names a failure in one line: a test or a task on a host; without one, a step of Molecule or the runner's own words.
NAMED = [re.compile(r"(?:FAILED |ERROR: |fatal: )"), re.compile(r"(?:ended |ERROR |CRITICAL |\[ERROR\])")]
# As for errors: not in the text of a program that is written to a host.
NOT_VERIFIED = re.compile(r"^(?![+-]).*?(not verified here: .*)$", re.MULTILINE)
MEASURED = re.compile(r"measured: (.*)")
GROUPS = ("prepare", "lint", "unit", "syntax", "docs", "package", "latest", "molecule")
CHECK = ("lint", "unit", "syntax", "docs")
# The platform on which the scenarios of operations work.
SHARED = "tier_growth"
STARTUP = "tier_startup"
# What asks a real server, promtool or nothing but pure functions, and so says the same under any version of Ansible.
WITHOUT_ANSIBLE = ("*_server.py", "*/alerts", "*/scripts", "*/plugins/plugin_utils", "*/module_utils/*")
# Of the tests in other places, those stay whose text has one of these: they import Ansible or start it, themselves or by a helper.
USES_ANSIBLE = re.compile(
    r"^\s*(?:from|import) ansible\b|^\s*from \.|\bansible-(?:playbook|doc|galaxy|inventory)\b"
    r"|\bplugins[./](?:action|callback|filter|modules)\b|\brender(?:ing|_role)\b",
    re.MULTILINE,
)
HOSTS_NEED = ("engine", "images", "artefacts")
NEWEST = "newest-core"
EVERY_STEP = ("destroy", "check", "converge", "idempotence", "side-effect", "verify")
# Failures repeated, check mode and idempotence in every scenario, all static checks on both versions of Ansible.
FULL = bool(os.environ.get("UPTIER_FULL"))
# How often each failure is repeated (`make soak`).
ROUNDS = int(os.environ.get("UPTIER_ROUNDS", "4" if FULL else "1"))
# A stage that hangs is ended. One that works gets a third of a processor at worst, and less while others start: it must not be taken for one.
PATIENCE = 6
# Beside a platform the rest steps back: its processes by niceness, its hosts by their share of the processors (a host has 1024).
NICE = 10
SHARES = 128

Command = list[str | Path]


@dataclass
class Stage:
    """One line of the table: commands that run one after the other until one fails."""

    name: str
    group: str
    commands: list[Command]
    needs: tuple[str, ...] = ()
    last: Command | None = None  # run at the end, whatever happened
    after: tuple[str, ...] = ()  # waited for, and done without where it failed
    minutes: float = 15
    environment: dict[str, str] = field(default_factory=dict)
    lab: str = ""
    lane: bool = False  # belongs to the platform's lane
    optional: bool = False  # what needs it is not verified where it cannot be had
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    own_seconds: float = 0.0
    host_seconds: float = 0.0

    @property
    def log(self) -> Path:
        """Where the output goes."""
        return LOGS / f"{self.name}.log"

    @property
    def cpu(self) -> float:
        """Seconds of processor, here and on the hosts."""
        return self.own_seconds + self.host_seconds


def python(*words: str) -> Command:
    """Return a command that runs one of our scripts."""
    return [sys.executable, *words]


def molecule(scenario: str, minutes: float = 20) -> Stage:
    """Return the stage of a scenario."""
    lane = scenario == SHARED or scenario.startswith("ops_")
    commands: list[Command] = [[BIN / "molecule", "test", "-s", scenario]]
    if FULL and not lane:
        commands = [[BIN / "molecule", step, "-s", scenario] for step in EVERY_STEP]
    stage = Stage(scenario, "molecule", commands, HOSTS_NEED, minutes=minutes, environment=molecule_environment(scenario))
    if scenario == STARTUP:
        # The newest ansible-core makes the platform, and the oldest has to find nothing to change. Without the newest, the oldest does both.
        newest = f"PATH={LATEST}:{BIN}:{os.environ['PATH']}"
        stage.commands = [["env", newest, "molecule", step, "-s", scenario] for step in ("destroy", "check", "converge")]
        stage.commands.append([BIN / "molecule", "verify", "-s", scenario])
        stage.after = (NEWEST,)
    if len(stage.commands) > 1 and not lane:
        stage.last = [BIN / "molecule", "destroy", "-s", scenario]  # `molecule test` does it by itself, also after a failure
    stage.lab = f"mol-{SHARED if lane else scenario}"
    if lane:
        stage.lane = True
        stage.commands[0].append("--destroy=never")  # they work on one platform; `run_all` removes it
        # What an interrupted run left: Molecule would take its note that hosts exist for the hosts.
        stage.commands.insert(0, [BIN / "molecule", "reset", "-s", scenario])
    else:
        stage.environment["UPTIER_LAB_SHARES"] = str(SHARES)
    if scenario == SHARED and FULL:
        stage.commands.insert(0, [BIN / "molecule", "check", "-s", scenario])
    if scenario == SHARED:
        stage.commands.insert(0, python("scripts/lab.py", "down", f"--name={stage.lab}"))
    elif lane:
        stage.after = (SHARED,)  # a test that failed there says nothing about the platform; without one, they say so themselves
    if not list((ROOT / "molecule" / scenario).rglob("test_*.py")):
        stage.commands.insert(0, python("-c", f"raise SystemExit('molecule/{scenario} has no test_*.py: it would prove nothing')"))
    return stage


def molecule_environment(scenario: str) -> dict[str, str]:
    """Return what Molecule needs: our programs first, its notes with the clone, lines as Ansible wrote them, no inventory before there is one."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "MOLECULE_EPHEMERAL_DIRECTORY": str(ROOT / ".cache" / "molecule" / scenario),
        "MOLECULE_ANSIBLE_ARGS_STRICT_MODE": "1",
        "MOLECULE_COMMAND_BORDERS": "false",
    }


def scenarios() -> list[str]:
    """Return all scenarios: platforms first, from large to small, then procedures, then roles."""
    names = [path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")]
    order = [SHARED, "ops_", "tier_", "role_"]
    return sorted(names, key=lambda name: (next((i for i, start in enumerate(order) if name.startswith(start)), 99), name))


def syntax(binaries: Path = BIN) -> list[Command]:
    """Return the commands that parse every playbook, also those of the scenarios, which name every role, and every inventory."""
    playbooks = sorted((ROOT / "playbooks").glob("*.yml"))
    playbooks += [path for path in sorted((ROOT / "molecule").glob("*/*.yml")) if path.name != "molecule.yml"]
    commands: list[Command] = [[binaries / "ansible-playbook", "--syntax-check", "-i", "inventories/prod", *playbooks]]
    for hosts in sorted((ROOT / "inventories").glob("**/hosts.yml")):
        password = hosts.parent / ".vault_password"
        vault = [f"--vault-password-file={password}"] if password.exists() else []
        commands.append([binaries / "ansible-inventory", "--list", "-i", hosts.parent, *vault])
    return commands


def without_ansible() -> list[str]:
    """Return the options of pytest that leave out the tests in which no version of Ansible has a part."""
    unit = ROOT / "tests" / "unit"
    alone = [path for part in (".", "docs", "playbooks", "roles") for path in sorted((unit / part).glob("test_*.py"))]
    alone = [path for path in alone if not USES_ANSIBLE.search(path.read_text(encoding="utf-8"))]
    return [f"--ignore-glob={part}" for part in WITHOUT_ANSIBLE] + [f"--ignore={path.relative_to(ROOT)}" for path in alone]


def preparation() -> list[Stage]:
    """Return the stages that bring what others need, the longest chain first."""
    # Without npm on this machine the sample application is built in a container.
    builds_here = shutil.which("npm") and shutil.which("node")
    return [
        Stage("engine", "prepare", [python("scripts/engine.py", "up")]),
        Stage("images", "prepare", [python("scripts/images.py")], ("engine",)),
        Stage("artefacts", "prepare", [python("scripts/inventory.py")], () if builds_here else ("images",)),
        Stage(NEWEST, "prepare", [["scripts/bootstrap", "--latest"]], optional=True),
    ]


def all_stages() -> list[Stage]:
    """Return every stage, in the order in which they start where nothing keeps them waiting."""
    unit: Command = ["pytest", "-q", "--color=no", "-p", "no:cacheprovider", "tests/unit"]
    stages = [
        *preparation(),
        Stage("yamllint", "lint", [[BIN / "yamllint", "-s", "-f", "parsable", "."]]),
        Stage("ruff", "lint", [[BIN / "ruff", "check", "--output-format=concise", "."]]),
        Stage("syntax", "syntax", syntax()),
        Stage("unit", "unit", [[BIN / unit[0], *unit[1:]]]),
        Stage("ansible-lint", "lint", [[BIN / "python", "scripts/lint_ansible.py", "--offline", "--nocolor", "-q"]]),
        Stage("antsibull-docs", "docs", [[BIN / "antsibull-docs", "lint-collection-docs", "--plugin-docs", "."]]),
        Stage("docs", "docs", [python("scripts/build_docs.py")]),
        Stage("sanity", "package", [python("scripts/check_collection.py", "sanity")]),
        Stage("galaxy", "package", [python("scripts/check_collection.py", "galaxy")]),
        Stage("latest_syntax", "latest", syntax(LATEST), (NEWEST,)),
        Stage("latest_unit", "latest", [[LATEST / unit[0], *unit[1:], *(() if FULL else without_ansible())]], (NEWEST,)),
    ]
    if FULL:
        stages.append(Stage("latest_sanity", "latest", [[LATEST / "python", "scripts/check_collection.py", "sanity"]], (NEWEST,)))
    hosts = [molecule(name, minutes=40 if name == SHARED else 45 * ROUNDS) for name in scenarios()]
    given = budgets()
    for stage in stages:
        stage.minutes = max(stage.minutes, PATIENCE * given.get(stage.name, 0) / 60)
    # Processor seconds are what a stage takes from the others: the largest first, so that none is left alone at the end.
    stages += sorted(hosts, key=lambda stage: (not stage.lane, stage.lane or -given.get(stage.name, 0)))
    return stages


def budgets() -> dict[str, float]:
    """Return the seconds of processor that each stage is meant to take."""
    return {str(name): float(seconds) for name, seconds in yaml.safe_load(BUDGETS.read_text(encoding="utf-8")).items()}


class Schedule:
    """Which stage comes next: the first one for which everything is there."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        """Take the stages in the order in which they are wanted."""
        self.waiting = list(stages)
        self.named = {stage.name for stage in stages}
        self.ended: dict[str, bool] = {}
        self.changed = threading.Condition()
        self.stopped = False

    def take(self, lane: bool) -> tuple[Stage, list[str]] | None:
        """Wait for a stage of the platform's lane or of the rest; return it with what it lacks, or None after the last one.

        The lane's thread helps to prepare what it waits for.
        """
        with self.changed:
            while not self.stopped:
                mine = [stage for stage in self.waiting if stage.lane == lane]
                if not mine:
                    return None
                helping = [stage for stage in self.waiting if lane and stage.group == "prepare" and not stage.optional]
                for stage in [*mine, *helping]:
                    needs = [name for name in stage.needs if name in self.named]
                    if all(name in self.ended for name in [*needs, *(name for name in stage.after if name in self.named)]):
                        self.waiting.remove(stage)
                        return stage, [name for name in needs if not self.ended[name]]
                self.changed.wait()
            return None

    def end(self, stage: Stage, good: bool) -> None:
        """Let those start that waited for it."""
        with self.changed:
            self.ended[stage.name] = good
            self.changed.notify_all()

    def stop(self) -> None:
        """Start nothing more."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


class Runner:
    """Runs stages and remembers their processes, so that an interrupt ends them too."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        """Start with nothing running."""
        self.schedule = Schedule(stages)
        self.optional = {stage.name for stage in stages if stage.optional}
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock = threading.Lock()
        self.done: list[Stage] = []
        self.left_out: dict[str, str] = {}  # by stage, why it could not be run here

    def work(self, lane: bool) -> None:
        """Run stages until there are none left."""
        while (taken := self.schedule.take(lane)) is not None:
            stage, lacking = taken
            good = False
            try:
                absent = ", ".join(lacking)
                if lacking and self.optional.issuperset(lacking):
                    self.left_out[stage.name] = f"no {absent} on this machine"
                elif lacking:
                    stage.failed = 1
                    stage.log.write_text(f"not run, because it needs {absent}, which failed\n", encoding="utf-8")
                    self.say(f"FAILED  {stage.name:<28}  not run: it needs {absent}, which failed", stage)
                else:
                    good = self.run(stage)
            finally:
                self.schedule.end(stage, good)

    def say(self, text: str, stage: Stage) -> None:
        """Report the end of a stage."""
        with self.lock:
            self.done.append(stage)
            say(text)

    def run(self, stage: Stage) -> bool:
        """Run one stage and say how it went."""
        started = time.monotonic()
        deadline = started + stage.minutes * 60
        before = processor_seconds(stage.lab) if stage.lab else 0.0
        problem = ""
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
        environment |= {"ANSIBLE_FORCE_COLOR": "0", **stage.environment}
        # Programs that a test runs on a host by entering it are children of ours and processes of the host: counted there.
        entered = stage.log.with_suffix(".entered")
        entered.unlink(missing_ok=True)
        environment["UPTIER_ENTERED_SECONDS"] = str(entered)
        lost = stage.log.with_suffix(".lost")  # what hosts had used when a test killed them
        lost.unlink(missing_ok=True)
        environment["UPTIER_LOST_SECONDS"] = str(lost)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # Ansible and Molecule start hundreds of times
        # What prepares is waited for by the platform, and runs while there is none yet.
        steps_back = not stage.lane and stage.group != "prepare"
        with stage.log.open("wb") as log:
            for command in [*stage.commands, *([stage.last] if stage.last else [])]:
                if problem and command is not stage.last:
                    continue
                words = [str(word) for word in command]
                log.write(f"$ {' '.join(words)}\n".encode())
                log.flush()
                nice = ["nice", "-n", str(NICE)] if steps_back else []
                until = deadline if command is not stage.last else max(deadline, time.monotonic() + 60)
                wrong, used = self._command([*nice, *words], environment, log.fileno(), until)
                stage.own_seconds += used
                if wrong:
                    log.write(f"\n{wrong}\n".encode())
                problem = problem or wrong
        stage.seconds = time.monotonic() - started
        stage.own_seconds = max(0.0, stage.own_seconds - noted(entered))
        stage.host_seconds = max(0.0, processor_seconds(stage.lab) - before + noted(lost)) if stage.lab else 0.0
        text = stage.log.read_text(encoding="utf-8", errors="replace")
        stage.passed, stage.failed = count(text, bool(problem))
        if stage.group == "prepare":
            stage.passed = 0  # it proves nothing
        figures = f"{stage.name:<28}{stage.seconds:7.1f} s {stage.cpu:7.1f} s of processor"
        if problem and stage.optional:
            stage.failed = 0
            self.left_out[stage.name] = text.strip().splitlines()[-3:][0]
            self.say(f"{'absent':<8}{figures}", stage)
        elif problem:
            lines = "\n".join(f"    | {line}" for line in excerpt(text))
            self.say(f"{'FAILED':<8}{figures}\n{lines}\n    all of it: {stage.log.relative_to(ROOT)}\n", stage)
        else:
            self.say(f"{'ok':<8}{figures}", stage)
        return not problem

    def _command(self, words: list[str], environment: dict[str, str], log: int, deadline: float) -> tuple[str, float]:
        """Run a command in a process group of its own; return what went wrong, and the seconds of processor that it used."""
        try:
            process = subprocess.Popen(
                words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        except OSError as error:
            return f"{words[0]} cannot be run: {error}", 0.0
        self.running.add(process)
        try:
            while not ended(process):
                if time.monotonic() > deadline:
                    end_group(process)
                    return "ended here: the stage has used up its time", 0.0
                time.sleep(0.1)
            used = used_by(process.pid)
            status = process.wait()
        finally:
            self.running.discard(process)
        return f"ended with status {status}" if status else "", used

    def stop(self) -> None:
        """End everything that runs."""
        self.schedule.stop()
        for process in list(self.running):
            end_group(process)


def noted(path: Path) -> float:
    """Return the sum of the seconds that tests have noted in a file; 0 where they noted none."""
    return sum(map(float, path.read_text(encoding="ascii").split())) if path.exists() else 0.0


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has ended, and leave it to be waited for."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:  # an interrupt has waited for it
        return True


def used_by(pid: int) -> float:
    """Return the seconds of processor that an ended process and the children that it waited for have used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def machine_seconds() -> float:
    """Return how long all processors of this machine have worked since its start; 0 where nobody counts that."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, dummy_idle, dummy_wait, interrupts, soft, dummy_stolen = ticks
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, first politely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return


def count(text: str, failed: bool) -> tuple[int, int]:
    """Return how many tests of a stage passed and failed; a stage without tests of its own counts as one."""
    passed = wrong = 0
    for line in COUNTS.findall(text):
        for number, word in re.findall(r"(\d+) (passed|failed|errors?)", line):
            if word == "passed":
                passed += int(number)
            else:
                wrong += int(number)
    if failed:
        return passed, max(wrong, 1)
    return max(passed, 1), 0


def excerpt(text: str) -> list[str]:
    """Return the lines that tell why a stage failed: the first errors wherever they are, then the end."""
    lines = text.rstrip().splitlines()
    early = [line for line in lines[:-TAIL] if ERRORS.match(line)][:TAIL]
    return [*early, "...", *lines[-TAIL:]] if early else lines[-TAIL:]


def named_failures(text: str) -> list[str]:
    """Return at most twelve lines that name what failed; without any, the last one."""
    lines = [line.strip()[:200] for line in text.rstrip().splitlines() if line.strip()]
    found = [[line for line in dict.fromkeys(lines) if pattern.match(line)] for pattern in NAMED]
    return (found[0] or found[1])[-12:] or lines[-1:]


def table(stages: Iterable[Stage], given: Mapping[str, float], seconds: float, busy: float) -> str:
    """Return the result for people: what each stage took of the clock and of the processors, and what it was meant to take.

    Args:
        stages: those that ended.
        given: by stage, the seconds of processor in its budget.
        seconds: from the start of the run to its end.
        busy: seconds of processor that the whole machine has worked meanwhile.
    """
    done = list(stages)
    rows = [("stage", "passed", "failed", "seconds", "cpu", "of hosts", "budget", "")]
    for stage in done:
        hosts = f"{stage.host_seconds:.0f}" if stage.lab else ""
        budget = given.get(stage.name)
        over = "over by half" if budget and stage.cpu > 1.5 * budget and not FULL else ""
        figures = (f"{stage.seconds:.0f}", f"{stage.cpu:.0f}", hosts, f"{budget:.0f}" if budget else "")
        rows.append((stage.name, str(stage.passed), str(stage.failed), *figures, over))
    cpu, hosts = sum(stage.cpu for stage in done), sum(stage.host_seconds for stage in done)
    rows.append(("all stages", "", "", "", f"{cpu:.0f}", f"{hosts:.0f}", f"{sum(given.get(stage.name, 0) for stage in done):.0f}", ""))
    rows.append(("the engine and the rest", "", "", "", f"{max(0.0, busy - cpu):.0f}", "", "", ""))
    width = max(len(row[0]) for row in rows)
    lines = [f"{a:<{width}}  {b:>6}  {c:>6}  {d:>7}  {e:>6}  {f:>8}  {g:>6}  {h}".rstrip() for a, b, c, d, e, f, g, h in rows]
    processors = os.cpu_count() or 1
    share = busy / seconds / processors
    lines.append(
        f"\nwall clock {seconds / 60:.1f} minutes ({seconds:.0f} s), {busy:.0f} s of processor, {processors} processors {share:.0%} busy"
    )
    return "\n".join(lines)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", help=f"check, test, groups ({', '.join(GROUPS)}) or names of stages")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="stages that run at once beside the platform's")
    parser.add_argument("--list", action="store_true", help="show the stages and end")
    arguments = parser.parse_args()
    try:
        stages = chosen(all_stages(), set(arguments.stages or ["test"]))
    except Problem as problem:
        stop("run_tests", problem)
    if arguments.list:
        say("\n".join(f"{stage.group:<10}{stage.name}" for stage in stages))
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    raise SystemExit(run_all(stages, arguments.jobs))


def chosen(stages: list[Stage], wanted: set[str]) -> list[Stage]:
    """Return the stages that are meant, with those that they need."""
    if "test" not in wanted:
        known = {stage.name for stage in stages} | set(GROUPS)
        wanted |= set(CHECK) if "check" in wanted else set()
        unknown = wanted - known - {"check"}
        if unknown:
            raise Problem(f"there is no stage {', '.join(sorted(unknown))}. There are: {', '.join(sorted(known))}.")
        needed = {name for stage in stages if stage.name in wanted or stage.group in wanted for name in stage.needs}
        if needed & set(HOSTS_NEED):
            needed |= set(HOSTS_NEED)
        stages = [stage for stage in stages if stage.name in wanted | needed or stage.group in wanted]
    if any(stage.name == SHARED for stage in stages):
        for stage in stages:
            if stage.name.startswith("ops_"):  # its platform was brought up to date a moment ago
                stage.commands = [[BIN / "molecule", "verify", "-s", stage.name]]
    return stages


def run_all(stages: list[Stage], jobs: int) -> int:
    """Run the stages, print the table, return the exit status."""
    runner = Runner(stages)
    # `make` notes when it began: what it sets up first is part of the time that a user waits.
    before = max(0.0, time.time() - float(os.environ.get("UPTIER_STARTED") or time.time()))
    started, worked = time.monotonic() - before, machine_seconds()

    def interrupted(number: int, _frame: object) -> None:
        runner.stop()
        say("run_tests: interrupted, and what ran was ended. Hosts of its scenarios may still be there: `make clean` removes them.")
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    threads = [threading.Thread(target=runner.work, args=(lane,), daemon=True) for lane in [True] + [False] * jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if any(stage.lane for stage in stages):
        run(sys.executable, ROOT / "scripts" / "lab.py", "down", f"--name=mol-{SHARED}", check=False)
    ran = [stage for stage in stages if stage in runner.done]
    logs = {stage.name: stage.log.read_text(encoding="utf-8", errors="replace") for stage in ran}
    not_verified = {found for text in logs.values() for found in NOT_VERIFIED.findall(text)}
    not_verified |= {f"not verified here: {name} ({why})" for name, why in runner.left_out.items()}
    say("")
    for name, text in logs.items():
        for found in MEASURED.findall(text):
            say(f"{name}: {found}")
    for line in sorted(not_verified):
        say(line)
    say("\n" + table(ran, budgets(), time.monotonic() - started, machine_seconds() - worked))
    for stage in ran:
        if stage.failed:
            say("\n".join([f"\nFAILED  {stage.name}", *(f"    | {line}" for line in named_failures(logs[stage.name]))]))
    say(f"\n{sum(stage.passed for stage in ran)} passed, {sum(stage.failed for stage in ran)} failed")
    unaccounted = [stage for stage in stages if stage not in ran and stage.name not in runner.left_out]
    return int(bool(unaccounted) or any(stage.failed for stage in ran))


if __name__ == "__main__":
    main()
