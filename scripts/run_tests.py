# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the stages of `make check` and `make test`, and end with a table of where the time went.

Independent stages run two at a time; platforms run alone, since their tests measure seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab import processor_seconds
from support import BIN, BUILD, ROOT, Problem, run, say, stop

LOGS = BUILD / "test-logs"
LATEST = ROOT / ".cache" / "venv-latest" / "bin"
TAIL = 60
COUNTS = re.compile(r"^(?:=+ )?(?=\d+ (?:passed|failed|error|skipped|xfailed))[^\n]* in [\d.]+s[^\n]*$", re.MULTILINE)
ERRORS = re.compile(r"(?:ERROR|FATAL|FAILED|fatal:|E  |.*(?:Error|error):)")
NOT_VERIFIED = re.compile(r"not verified here: .*")
MEASURED = re.compile(r"measured: (.*)")
GROUPS = ("lint", "unit", "syntax", "docs", "package", "molecule", "latest")
# The platform on which the scenarios of operations work, one after the other.
SHARED = "tier_growth"
STARTUP = "tier_startup"
# These start first, so that no processor is idle at the end.
LONGEST = ("role_postgresql", "role_prometheus", "tier_startup", "role_redis")
# How often each failure is repeated (`make soak`).
ROUNDS = int(os.environ.get("UPTIER_ROUNDS", "1"))
CHECK = ("lint", "unit", "syntax", "docs")

Command = list[str | Path]


@dataclass
class Stage:
    """One line of the table: commands that run one after the other until one fails."""

    name: str
    group: str
    commands: list[Command]
    alone: bool = False
    minutes: float = 15
    environment: dict[str, str] = field(default_factory=dict)
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    lab: str = ""
    own_seconds: float = 0.0
    host_seconds: float = 0.0

    @property
    def log(self) -> Path:
        """Where the output goes."""
        return LOGS / f"{self.name}.log"


def python(*words: str) -> Command:
    """Return a command that runs one of our scripts."""
    return [sys.executable, *words]


def molecule(scenario: str, minutes: float = 20, binaries: Path = BIN) -> Stage:
    """Return the stage of a scenario."""
    # The startup platform is one host and measures nothing, so it may have company.
    alone = not scenario.startswith("role_") and scenario != STARTUP
    tests = list((ROOT / "molecule" / scenario).rglob("test_*.py"))
    commands: list[Command] = [[binaries / "molecule", "test", "-s", scenario]]
    if scenario == SHARED or scenario.startswith("ops_"):
        commands[0].append("--destroy=never")  # they work on one platform; `run_all` removes it
        # What an interrupted run left: Molecule would take its note that hosts exist for the hosts.
        commands.insert(0, [binaries / "molecule", "reset", "-s", scenario])
    if scenario == SHARED:
        commands.insert(0, python("scripts/lab.py", "down", f"--name=mol-{SHARED}"))
    if not tests:
        commands.insert(0, python("-c", f"raise SystemExit('molecule/{scenario} has no test_*.py: it would prove nothing')"))
    name, group = (scenario, "molecule") if binaries == BIN else (f"latest_{scenario}", "latest")
    stage = Stage(name, group, commands, alone, minutes, molecule_environment(scenario, binaries))
    stage.lab = f"mol-{SHARED if scenario.startswith('ops_') else scenario}"
    return stage


def molecule_environment(scenario: str, binaries: Path) -> dict[str, str]:
    """Return what Molecule needs: our programs first, its notes with the clone, lines as Ansible wrote them, no inventory before there is one."""
    return {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "MOLECULE_EPHEMERAL_DIRECTORY": str(ROOT / ".cache" / "molecule" / scenario),
        "MOLECULE_ANSIBLE_ARGS_STRICT_MODE": "1",
        "MOLECULE_COMMAND_BORDERS": "false",
    }


def scenarios() -> list[str]:
    """Return all scenarios: roles first, then platforms from small to large, then procedures."""
    names = [path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")]
    order = ["role_", "tier_startup", "tier_growth", "tier_", "ops_"]
    return sorted(names, key=lambda name: (next((i for i, start in enumerate(order) if name.startswith(start)), 99), name))


def syntax(binaries: Path = BIN) -> list[Command]:
    """Return the commands that parse every playbook and every inventory."""
    playbooks = sorted((ROOT / "playbooks").glob("*.yml"))
    commands: list[Command] = [[binaries / "ansible-playbook", "--syntax-check", "-i", "inventories/prod", *playbooks]]
    for hosts in sorted((ROOT / "inventories").glob("**/hosts.yml")):
        password = hosts.parent / ".vault_password"
        vault = [f"--vault-password-file={password}"] if password.exists() else []
        commands.append([binaries / "ansible-inventory", "--list", "-i", hosts.parent, *vault])
    return commands


def all_stages() -> list[Stage]:
    """Return every stage, in the order in which they start."""
    unit: Command = ["pytest", "-q", "--color=no", "-p", "no:cacheprovider", "tests/unit"]
    stages = [
        Stage("ansible-lint", "lint", [[BIN / "ansible-lint", "--offline", "--nocolor", "-q"]]),
        Stage("yamllint", "lint", [[BIN / "yamllint", "-s", "-f", "parsable", "."]]),
        Stage("ruff", "lint", [[BIN / "ruff", "check", "--output-format=concise", "."]]),
        Stage("unit", "unit", [[BIN / unit[0], *unit[1:]]]),
        Stage("syntax", "syntax", syntax()),
        Stage("antsibull-docs", "docs", [[BIN / "antsibull-docs", "lint-collection-docs", "--plugin-docs", "."]]),
        Stage("docs", "docs", [python("scripts/build_docs.py")]),
        Stage("sanity", "package", [python("scripts/check_collection.py", "sanity")]),
        Stage("galaxy", "package", [python("scripts/check_collection.py", "galaxy")]),
    ]
    names = scenarios()
    if (LATEST / "python").exists():
        stages += [
            # What asks a real server does not depend on Ansible.
            Stage("latest_unit", "latest", [[LATEST / unit[0], *unit[1:], "--ignore-glob=*_server.py"]]),
            Stage("latest_syntax", "latest", syntax(LATEST)),
            Stage("latest_sanity", "latest", [[LATEST / "python", "scripts/check_collection.py", "sanity"]]),
            molecule(STARTUP, binaries=LATEST),
        ]
    for name in names:
        stages.append(molecule(name, minutes=40 if name == SHARED else 25 * ROUNDS))
    # Stable: platforms come last, in their order; the second startup platform follows the first at a distance.
    short = [stage for stage in stages if stage.group == "molecule" and stage.name not in LONGEST and not stage.alone]
    second = [stage for stage in stages if stage.name == f"latest_{STARTUP}"]
    stages.sort(key=lambda stage: (stage.alone, stage in second, stage in short))
    return stages


class Runner:
    """Runs stages and remembers their processes, so that an interrupt ends them too."""

    def __init__(self) -> None:
        """Start with nothing running."""
        self.running: set[subprocess.Popen[bytes]] = set()
        self.lock = threading.Lock()
        # The startup platform runs twice, on two versions of Ansible, and its hosts have one name.
        self.startup = threading.Lock()
        self.stopped = False

    def run(self, stage: Stage) -> None:
        """Run one stage and say how it went."""
        with self.startup if stage.name.endswith(STARTUP) else contextlib.nullcontext():
            if not self.stopped:
                self._run(stage)

    def _run(self, stage: Stage) -> None:
        started = time.monotonic()
        deadline = started + stage.minutes * 60
        before = processor_seconds(stage.lab) if stage.lab else 0.0
        problem = ""
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "ANSIBLE_FORCE_COLOR": "0", **stage.environment}
        with stage.log.open("wb") as log:
            for command in stage.commands:
                words = [str(word) for word in command]
                log.write(f"$ {' '.join(words)}\n".encode())
                log.flush()
                problem, used = self._command(words, environment, log.fileno(), deadline)
                stage.own_seconds += used
                if problem:
                    log.write(f"\n{problem}\n".encode())
                    break
        stage.seconds = time.monotonic() - started
        stage.host_seconds = max(0.0, processor_seconds(stage.lab) - before) if stage.lab else 0.0
        text = stage.log.read_text(encoding="utf-8", errors="replace")
        stage.passed, stage.failed = count(text, bool(problem))
        with self.lock:
            verdict = "FAILED" if problem else "ok"
            say(f"{verdict:<8}{stage.name:<28}{stage.seconds:7.1f} s")
            if problem:
                lines = excerpt(text)
                say("\n".join(f"    | {line}" for line in lines) + f"\n    all of it: {stage.log.relative_to(ROOT)}\n")

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
        self.stopped = True
        for process in list(self.running):
            end_group(process)


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
    """Return the lines that tell why a stage failed: the first errors wherever they stand, then the end."""
    lines = text.rstrip().splitlines()
    early = [line for line in lines[:-TAIL] if ERRORS.match(line)][:TAIL]
    return [*early, "...", *lines[-TAIL:]] if early else lines[-TAIL:]


def table(stages: Iterable[Stage], seconds: float, busy: float) -> str:
    """Return the result for people: what each stage took of the clock and of the processors, here and on its hosts."""
    rows = [("stage", "passed", "failed", "seconds", "cpu", "of hosts")]
    done = list(stages)
    for stage in done:
        cpu, hosts = stage.own_seconds + stage.host_seconds, stage.host_seconds
        rows.append(
            (stage.name, str(stage.passed), str(stage.failed), f"{stage.seconds:.0f}", f"{cpu:.0f}", f"{hosts:.0f}" if hosts else "")
        )
    known = sum(stage.own_seconds + stage.host_seconds for stage in done)
    rows.append(("all stages", "", "", "", f"{known:.0f}", f"{sum(stage.host_seconds for stage in done):.0f}"))
    rows.append(("the engine and the rest", "", "", "", f"{max(0.0, busy - known):.0f}", ""))
    width = max(len(row[0]) for row in rows)
    lines = [f"{a:<{width}}  {b:>7}  {c:>7}  {d:>8}  {e:>7}  {f:>8}" for a, b, c, d, e, f in rows]
    processors = os.cpu_count() or 1
    lines.append(f"wall clock {seconds:.0f} s, processors {busy:.0f} s, {processors} processors {busy / seconds / processors:.0%} busy")
    return "\n".join(lines)


def prepare(stages: list[Stage]) -> None:
    """Have the engine and the images where a scenario needs them."""
    if any("molecule" in str(stage.commands[-1][0]) for stage in stages):
        for words in ("engine.py up", "images.py", "inventory.py"):
            script, *rest = words.split()
            if subprocess.run([sys.executable, ROOT / "scripts" / script, *rest], check=False).returncode != 0:
                raise Problem("no scenario can run without test hosts; the reason stands above.")


def latest() -> None:
    """Make the environment with the newest ansible-core where this machine has a Python for it."""
    done = run(ROOT / "scripts" / "bootstrap", "--latest", check=False)
    if done.returncode != 0:
        say(f"not verified here: newest ansible-core ({done.stderr.strip().splitlines()[-1]})")


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", help=f"check, test, groups ({', '.join(GROUPS)}) or names of stages")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="stages that run at once")
    parser.add_argument("--list", action="store_true", help="show the stages and end")
    arguments = parser.parse_args()
    wanted = set(arguments.stages or ["test"])
    try:
        if wanted & {"test", "latest"}:
            latest()
        stages = all_stages()
        known = {stage.name for stage in stages} | set(GROUPS)
        if "test" not in wanted:
            wanted |= set(CHECK) if "check" in wanted else set()
            unknown = wanted - known - {"check"}
            if unknown:
                raise Problem(f"there is no stage {', '.join(sorted(unknown))}. There are: {', '.join(sorted(known))}.")
            stages = [stage for stage in stages if stage.name in wanted or stage.group in wanted]
        if any(stage.name == SHARED for stage in stages):
            for stage in stages:
                if stage.name.startswith("ops_"):  # its platform was brought up to date a moment ago
                    stage.commands = [[BIN / "molecule", "verify", "-s", stage.name]]
        if arguments.list:
            say("\n".join(f"{stage.group:<10}{stage.name}" for stage in stages))
            return
        LOGS.mkdir(parents=True, exist_ok=True)
        prepare(stages)
    except Problem as problem:
        stop("run_tests", problem)
    raise SystemExit(run_all(stages, arguments.jobs))


def run_all(stages: list[Stage], jobs: int) -> int:
    """Run the stages, print the table, return the exit status."""
    runner = Runner()
    started, worked = time.monotonic(), machine_seconds()

    def interrupted(number: int, _frame: object) -> None:
        runner.stop()
        say("run_tests: interrupted, and what ran was ended. Hosts of its scenarios may still be there: `make clean` removes them.")
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    for alone in (False, True):
        with ThreadPoolExecutor(max_workers=1 if alone else jobs) as pool:
            for result in [pool.submit(runner.run, stage) for stage in stages if stage.alone == alone]:
                result.result()
    if any(stage.name == SHARED or stage.name.startswith("ops_") for stage in stages):
        run(sys.executable, ROOT / "scripts" / "lab.py", "down", f"--name=mol-{SHARED}", check=False)
    logs = {stage.name: stage.log.read_text(encoding="utf-8", errors="replace") for stage in stages}
    not_verified = {found for text in logs.values() for found in NOT_VERIFIED.findall(text)}
    say("")
    for name, text in logs.items():
        for found in MEASURED.findall(text):
            say(f"{name}: {found}")
    for line in sorted(not_verified):
        say(line)
    say("\n" + table(stages, time.monotonic() - started, machine_seconds() - worked))
    say(f"\n{sum(stage.passed for stage in stages)} passed, {sum(stage.failed for stage in stages)} failed")
    return int(any(stage.failed for stage in stages))


if __name__ == "__main__":
    main()
