# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a pgBackRest repository says about itself, and what to do about it. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError

PROGRAM, CONFIG = "/usr/bin/pgbackrest", "/etc/pgbackrest/pgbackrest.conf"  # as Debian has them
SECOND = "/etc/pgbackrest/conf.d/second-repository.conf"  # the second repository alone
INCLUDED = "conf.d/*.conf"  # beside it; pgBackRest reads these too, where no file is given by name

BLANKS = " \t\r\v\f"

OK, MISSING_PATH, NO_BACKUP, MISSING_DATA, MIXED, OTHER = 0, 1, 2, 3, 4, 99
LISTS = ("repo", "backup", "archive", "db")  # of a stanza, in what `info` prints
LOCKED = 50
# Lines that pgBackRest adds to a message for each time it tried again.
RETRIES = re.compile(r"\n\s*\[\w+\] on (?:\d+ )?retr(?:y|ies)\b[^\n]*")
UNKNOWN_STANZA = "[invalid]"  # as `info` calls it where it was asked for no stanza by name, and a repository does not say which it has

# Exit codes of pgBackRest that have a known remedy.
REMEDIES = {
    28: (
        "other_cluster",
        "The stanza belongs to another cluster: PostgreSQL was re-created. `pgbackrest stanza-upgrade` adopts the new cluster.",
    ),
    49: ("unreachable", "A host does not answer on its pgBackRest port. Is its service pgbackrest running and the firewall open?"),
    56: ("no_leader", "No leading PostgreSQL server was found. See `patronictl list` on a database host."),
    82: ("archive_timeout", "A segment did not arrive in the repository. See PostgreSQL's log on the leader and pg_stat_archiver."),
    87: (
        "archive_disabled",
        "The leader does not archive: postgresql_archive must be pgbackrest, and a change of archive_mode needs a restart.",
    ),
    95: ("wrong_key", "The repository cannot be decrypted: vault_pgbackrest_cipher_pass is not the one with which it was created."),
    103: ("repository", "The repository cannot be used; check disk space, permissions and the service pgbackrest on its host."),
}


# What a bucket answers, by its status.
BUCKET = {
    "404": (
        "no_bucket",
        "The bucket is not there: create it, or correct pgbackrest_second_repository (bucket, endpoint, region, uri_style).",
    ),
    "403": (
        "bucket_denied",
        "The bucket is refused: see key, key_secret and what they are allowed to do there (list, get, put and delete objects).",
    ),
}


# Beside the first repository, which pgBackRest's own server may serve.
UNREACHABLE = (
    "unreachable",
    "See pgbackrest_second_repository (its server's name and port), and whether the repository's host can reach it. "
    "The first repository goes on without it.",
)


HOST_KEY = (
    "host_key",
    "The server shows another key than pgbackrest_second_repository.fingerprint names. Of several keys, its ECDSA key is asked for first "
    "(`ssh-keygen -lf /etc/ssh/ssh_host_ecdsa_key.pub` there). Where it did fit before, somebody else may answer in its place.",
)


class RepositoryError(PostgresqlError):
    """The repository is in a state in which nothing is done."""


def read_config(path: str = CONFIG) -> str:
    """Return the text of a host's settings, with those of a second repository.

    Raises:
        RepositoryError: not_configured.
    """
    try:
        files = [Path(path), *sorted(Path(path).parent.glob(INCLUDED))]
        return "\n".join(file.read_text(encoding="utf-8") for file in files)
    except OSError as error:
        raise RepositoryError("not_configured", f"{path} cannot be read: {error.strerror}. The role pgbackrest writes it.") from error


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """Return names and values of pgbackrest.conf, in their order, by section; a name may come several times."""
    found: dict[str, list[tuple[str, str]]] = {}
    section = ""
    # As pgBackRest reads it: Python would also end lines at signs that may be part of a value.
    for line in text.split("\n"):
        line = line.strip(BLANKS)
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and not line.startswith("#"):
            name, dummy, value = line.partition("=")
            found.setdefault(section, []).append((name.strip(BLANKS), value.strip(BLANKS)))
    return found


def repositories(text: str, stanza: str) -> dict[int, dict[str, str]]:
    """Return the settings of each repository that pgbackrest.conf has for a stanza, without their prefix `repoN-`, by number."""
    known = sections(text)
    found: dict[int, dict[str, str]] = {}
    for name, value in [*known.get("global", []), *known.get(stanza, [])]:
        numbered = re.fullmatch(r"repo(\d+)-(.+)", name)
        if numbered:
            found.setdefault(int(numbered[1]), {})[numbered[2]] = value
    return found


def local_path(text: str, stanza: str, number: int) -> str:
    """Return the directory of a repository that is on this host; empty for one that is elsewhere."""
    settings = repositories(text, stanza).get(number, {})
    if "host" in settings or settings.get("type", "posix") not in ("posix", "cifs"):
        return ""
    return settings.get("path", "/var/lib/pgbackrest")


def parse(output: str) -> list[dict[str, Any]]:
    """Return what `info --output=json` printed, without what it says of tries that failed alike.

    A message may hold line breaks, and bytes that were decrypted with a wrong key.
    """

    def told(status: dict[str, Any]) -> dict[str, Any]:
        return {**status, "message": RETRIES.sub("", status["message"])} if isinstance(status.get("message"), str) else status

    return json.loads(output.encode("utf-8", "replace").decode() or "[]", strict=False, object_hook=told)


def attributed(part: Sequence[Mapping[str, Any]], first: Sequence[Mapping[str, Any]], number: int) -> list[Mapping[str, Any]]:
    """Return what `info` says of all stanzas of a repository, where it does not answer as said of those that the first repository has.

    Args:
        part: of the repository.
        first: of the first repository.
        number: of the repository.
    """
    lost = next((entry["status"]["message"] for entry in part if entry["name"] == UNKNOWN_STANZA), None)
    if lost is None:
        return list(part)
    message = next((repo["status"]["message"] for entry in part for repo in entry.get("repo") or []), lost)
    return [entry for stanza in first for entry in unreadable(stanza["name"], number, message)]


def info_options(number: int) -> list[str]:
    """Return the options with which `info` asks one repository.

    Each is asked by itself: pgBackRest tries again for minutes where a bucket refuses connections, and tells nothing of the others meanwhile.
    """
    return [f"--repo={number}", *(["--io-timeout=5"] if number > 1 else [])]


def unreadable(name: str, number: int, message: str) -> list[dict[str, Any]]:
    """Return what `info` would have said of a stanza in a repository that does not answer."""
    status = {"code": OTHER, "message": message}
    return [
        {
            "name": name,
            "status": status,
            "repo": [{"key": number, "cipher": "none", "status": status}],
            "backup": [],
            "archive": [],
            "db": [],
        }
    ]


def merged(parts: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return what `info` says of all repositories, from what it said of each."""
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        for entry in part:
            whole = found.setdefault(entry["name"], {**entry, **{key: [] for key in LISTS}})
            for key in LISTS:
                whole[key] = [*whole[key], *(item for item in entry.get(key) or [] if item not in whole[key])]
            if whole["status"]["code"] != entry["status"]["code"]:
                whole["status"] = {**whole["status"], "code": MIXED, "message": "different across repos"}
    return list(found.values())


def stanza_of(info: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Return the entry of one stanza; one that is not there counts as missing."""
    for entry in info:
        if entry.get("name") == name:
            return entry
    return {"name": name, "status": {"code": MISSING_PATH, "message": "missing stanza"}, "backup": []}


def statuses(entry: Mapping[str, Any]) -> dict[int, tuple[int, str]]:
    """Return code and message of each repository of a stanza, by its number. A message is cut to what can be read of it."""
    found = {int(repo["key"]): repo["status"] for repo in entry.get("repo") or []} or {1: entry["status"]}
    # What was decrypted with a wrong key is no text.
    return {
        number: (status["code"], " ".join(re.sub(r"[^ -~]+", " ", status["message"]).split())[:300]) for number, status in found.items()
    }


def out_of_reach(info: Sequence[Mapping[str, Any]], name: str) -> dict[int, str]:
    """Return what repositories beside the first one report that cannot be used now, by number. The platform goes on without them."""
    known = (OK, MISSING_PATH, NO_BACKUP, MISSING_DATA)
    found = {number: text for number, (code, text) in statuses(stanza_of(info, name)).items() if number > 1 and code not in known}
    remedies = {number: elsewhere(text)[1] for number, text in found.items()}
    # What follows the first sentence of an answer is the conversation with the server.
    return {number: f"{text.partition(': ***')[0]}. {remedies[number]}" for number, text in found.items() if not _wrong_key(text)}


def lacks_stanza(info: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Tell whether the first repository holds nothing of a stanza."""
    return statuses(stanza_of(info, name)).get(1, (MISSING_PATH, ""))[0] in (MISSING_PATH, MISSING_DATA)


def plan(info: Sequence[Mapping[str, Any]], name: str, first_backup: bool) -> list[str]:
    """Return the pgBackRest commands to run, in order, with their options. Nothing where each repository has a usable backup.

    Raises:
        RepositoryError: wrong_key, or repository where the first one cannot be used.
    """
    found = statuses(stanza_of(info, name))
    for number in out_of_reach(info, name):
        del found[number]
    for code, text in found.values():
        if code in (OK, MISSING_PATH, NO_BACKUP, MISSING_DATA):
            continue
        if _wrong_key(text):
            raise RepositoryError("wrong_key", f"{text}. {REMEDIES[95][1]}")
        raise RepositoryError("repository", f"The repository reports: {text}. {REMEDIES[103][1]}")
    # Alone, the first one needs no number.
    several = len(statuses(stanza_of(info, name))) > 1
    bare = [number for number, (code, dummy) in found.items() if code in (MISSING_PATH, MISSING_DATA)]
    empty = [number for number, (code, dummy) in found.items() if code != OK] if first_backup else []
    steps = ["stanza-create"] if bare else []
    # It asks all of them; where one is out of reach, the backup shows that WAL arrives in its own.
    if (steps or empty) and not out_of_reach(info, name):
        steps.append("check")
    return [*steps, *(f"backup --type=full --repo={number}" if several else "backup --type=full" for number in sorted(empty))]


def _wrong_key(text: str) -> bool:
    return "CryptoError" in text or "FormatError" in text


def elsewhere(text: str) -> tuple[str, str]:
    """Return reason and remedy for what a repository beside the first one has answered."""
    if "fingerprint" in text and "do not match" in text:
        return HOST_KEY
    away = "ConnectError" in text or "HostInvalid" in text
    return _bucket(text, UNREACHABLE if away else ("repository", REMEDIES[103][1]))


def _bucket(text: str, otherwise: tuple[str, str]) -> tuple[str, str]:
    """Return reason and remedy for what a bucket has answered."""
    answered = re.search(r"HTTP request failed with (\d+)", text)
    return BUCKET.get(answered[1], otherwise) if answered else otherwise


def explain(command: str, code: int, output: str) -> RepositoryError:
    """Return the error that says what failed, what was seen and what to do."""
    reason, remedy = REMEDIES.get(code, ("failed", "See /var/log/pgbackrest on the repository's host."))
    output = RETRIES.sub("", output)
    reason, remedy = _bucket(output, (reason, remedy))
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    seen = " ".join(line for line in lines if "ERROR" in line or "HINT" in line or "Error]" in line) or " ".join(lines[-3:])
    return RepositoryError(reason, f"pgbackrest {command} ended with {code}: {seen or 'no output'} {remedy}")
