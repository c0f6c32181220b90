# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch one file of WAL from the backup repository for PostgreSQL (restore_command), without holding up a promotion.

restore_wal.py --stanza=NAME --data=DIRECTORY --promotion=FILE --memory=FILE [--pgbackrest=PROGRAM] [--config=FILE] NAME_OF_WAL TARGET

PostgreSQL asks for files one after another and waits for each answer, also while it is being promoted: for the next segment, and
for the history of the next timeline. A repository that does not answer would hold up the new leader for each of them. So:

- Patroni writes the promotion's file once it has the lease. From then on PostgreSQL waits BUDGET seconds in all for files that do not
  come; a fetch that is under way is cut off. A file that does come has the time counted anew: it holds rows that are nowhere else.
- Otherwise the repository's server is pinged before a file is fetched, unless it has just answered. One that does not answer is left
  alone for HOLD seconds, and then gets twice the time, up to PATIENCE: a slow repository is found in the end.
- pg_rewind, which gives an absolute target, needs its file at once and is followed by no promotion: it is fetched with PATIENCE.

Ends with 0 when the file is there and with 1 when it is not, whatever the reason. PostgreSQL goes on with the WAL that it has itself
and what the leader streams, and asks again later. The memory has a line for each number; the exporter of the platform's metrics reads it.
"""

from __future__ import annotations

# PostgreSQL waits for each start of this program, several in a promotion. These three cost nothing, any other as much as all of it.
import os
import sys
import time

BUDGET = 1.0  # seconds that a promotion waits for files that do not come, all of them together
PATIENCE = 15.0  # seconds that one file may take otherwise
PING = 1.0  # seconds in which the server of the repository answers, at first
FRESH = 10.0  # seconds for which an answer spares the next ping
HOLD = 10.0  # seconds for which a repository that failed is not asked
EPISODE = 60.0  # seconds without a failure after which the next one counts as the first again
VALID = 300.0  # seconds for which the promotion's file counts: a promotion that did not come about does not last for ever
TERM, KILL = 15, 9
QUIET = ["--log-level-console=off", "--log-level-stderr=off", "--log-level-file=off"]
OPTIONS = {"pgbackrest": "/usr/bin/pgbackrest", "config": "/etc/pgbackrest/pgbackrest.conf"}


def say(text: str) -> None:
    print(text, file=sys.stderr)


def read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


class Memory:
    """What earlier calls have seen of the repository, as numbers by name; moments are seconds since the epoch."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen: dict[str, float] = {}
        try:
            for line in read(path).splitlines():
                name, value = line.split()
                self.seen[name] = float(value)
        except (OSError, ValueError):
            self.seen = {}

    def since(self, name: str) -> float:
        """Return the seconds since a moment; infinite where there was none, or the clock was set back."""
        past = time.time() - self.seen[name] if name in self.seen else -1
        return past if past >= 0 else float("inf")

    def failures(self) -> int:
        """Return how many times in a row the repository has failed, as far as that says something about the present."""
        return 0 if self.since("last_failure") > EPISODE else int(self.seen.get("failures", 0))

    def answered(self) -> None:
        self.seen.update(last_answer=time.time(), failures=0)
        self.seen.pop("failing_since", None)

    def failed(self) -> None:
        failures, now = self.failures(), time.time()
        if not failures:
            self.seen["failing_since"] = now
        self.seen.update(last_failure=now, failures=failures + 1)
        self.seen.pop("last_answer", None)

    def save(self) -> None:
        """Keep it; what cannot be kept (a full file system) is not known the next time."""
        temporary = f"{self.path}.{os.getpid()}"
        try:
            with open(temporary, "w", encoding="utf-8") as stream:
                stream.writelines(f"{name} {value!r}\n" for name, value in self.seen.items())
            os.replace(temporary, self.path)
        except OSError as error:
            say(f"{self.path}: {error.strerror}. The next file is asked for as if nothing were known of the repository.")


class Promotion:
    """Whether this member is being promoted, and how long that may still wait for the repository."""

    def __init__(self, file: str, data: str, memory: Memory, possible: bool) -> None:
        self.file, self.data, self.memory, self.possible = file, data, memory, possible
        self.deadline: float | None = None

    def _started(self) -> float | None:
        """Return when Patroni began to promote the server that runs now."""
        moment = self._moment()
        if moment is None and os.path.exists(f"{self.data}/promote"):
            # Promoted by hand. PostgreSQL has removed that file when it asks for the next one.
            with open(self.file, "a", encoding="utf-8"):
                os.utime(self.file)
            moment = self._moment()
        return moment

    def _moment(self) -> float | None:
        try:
            moment = os.stat(self.file).st_mtime
            server = int(read(f"{self.data}/postmaster.pid").split("\n")[2])
        except (OSError, ValueError, IndexError):
            return None
        return moment if moment >= server and 0 <= time.time() - moment < VALID else None

    def left(self) -> float:
        """Return the seconds that are left; infinite without a promotion."""
        if self.deadline is None:
            started = self._started() if self.possible else None
            if started is None:
                return float("inf")
            if self.memory.seen.get("promotion") != started:
                self.memory.seen.update(promotion=started, waited=0.0)
            self.deadline = time.monotonic() + BUDGET - self.memory.seen["waited"]
        return self.deadline - time.monotonic()

    def account(self, found: bool) -> None:
        if self.deadline is not None:
            self.memory.seen["waited"] = 0.0 if found else BUDGET - (self.deadline - time.monotonic())


def run(command: list[str], patience: float, promotion: Promotion) -> int | None:
    """Run a program and return its status, or nothing where it took too long and was ended."""
    begin = time.monotonic()
    # In our own process group: PostgreSQL's signals reach it too.
    child = os.posix_spawn(command[0], command, os.environ)
    while (spent := time.monotonic() - begin) < patience and promotion.left() > 0:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005 if spent < 0.5 else 0.05)
    # It is gone before PostgreSQL hears of it: nothing may write to the target any more.
    os.kill(child, TERM)
    begin = time.monotonic()
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() - begin > 0.1:
            os.kill(child, KILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.005)
    return None


def servers(config: str) -> list[tuple[str, str]]:
    """Return host and port of each repository; none when one of them is no host that speaks TLS, and so cannot be pinged."""
    repositories: dict[str, dict[str, str]] = {}
    for line in config.splitlines():
        name, dummy, value = line.partition("=")
        repository, dummy, option = name.strip().partition("-")
        if repository[:4] == "repo" and repository[4:].isdigit():
            repositories.setdefault(repository, {})[option] = value.strip()
    if any("host" not in options or options.get("host-type") != "tls" for options in repositories.values()):
        return []
    return [(options["host"], options.get("host-port", "8432")) for options in repositories.values()]


def answers(given: dict[str, str], promotion: Promotion, patience: float) -> bool:
    """Whether a repository is there: that costs one exchange with its server, and no entry in its log."""
    program = [given["pgbackrest"], f"--config={given['config']}", *QUIET]
    asked = servers(read(given["config"]))
    commands = [[*program, f"--tls-server-port={port}", "server-ping", host] for host, port in asked]
    return not commands or any(run(command, patience, promotion) == 0 for command in commands)


def fetch(given: dict[str, str], memory: Memory, promotion: Promotion) -> bool:
    """Fetch the file; return whether it is there now."""
    if promotion.possible:
        failures = memory.failures()
        if (failures and memory.since("last_failure") < HOLD) or promotion.left() <= 0:
            return False
        patience = min(PING * 2**failures, PATIENCE)
        # A promotion fetches at once: its time is bounded anyway.
        stale = memory.since("last_answer") > FRESH and promotion.deadline is None
        if stale and not answers(given, promotion, patience):
            if promotion.left() > 0:
                memory.failed()
                say(f"The backup repository has not answered within {patience:g} s. It is asked again in {HOLD:g} s.")
            return False
    program = [given["pgbackrest"], f"--config={given['config']}", f"--stanza={given['stanza']}"]
    status = run([*program, "archive-get", given["name"], given["target"]], PATIENCE, promotion)
    if status in (0, 1):  # 1: the repository says that it has no such file
        memory.answered()
    elif promotion.left() > 0:
        memory.failed()
        why = f"took longer than {PATIENCE:g} s" if status is None else f"ended with status {status}"
        say(f"Fetching {given['name']} from the backup repository {why}. It is asked again in {HOLD:g} s.")
    return status == 0


def main(arguments: list[str]) -> int:
    if "--help" in arguments:
        print(__doc__)
        return 0
    options = dict(word[2:].split("=", 1) for word in arguments if word.startswith("--"))
    words = [word for word in arguments if not word.startswith("--")]
    given = {**OPTIONS, **options, **dict(zip(("name", "target"), words, strict=True))}
    memory = Memory(given["memory"])
    promotion = Promotion(given["promotion"], given["data"], memory, possible=not os.path.isabs(given["target"]))
    try:
        found = fetch(given, memory, promotion)
    except OSError as error:
        say(f"{given['name']} cannot be fetched from the backup repository: {error}")
        found = False
    promotion.account(found)
    memory.save()
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
