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

OK, MISSING_PATH, NO_BACKUP, MISSING_DATA = 0, 1, 2, 3
LOCKED = 50

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


class RepositoryError(PostgresqlError):
    """The repository is in a state in which nothing is done."""


def read_config(path: str = CONFIG) -> str:
    """Return the text of a host's settings.

    Raises:
        RepositoryError: not_configured.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RepositoryError("not_configured", f"{path} cannot be read: {error.strerror}. The role pgbackrest writes it.") from error


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """Return names and values of pgbackrest.conf, in their order, by section; a name may come several times."""
    found: dict[str, list[tuple[str, str]]] = {}
    section = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and not line.startswith("#"):
            name, dummy, value = line.partition("=")
            found.setdefault(section, []).append((name.strip(), value.strip()))
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
    """Return what `info --output=json` printed. A message may hold line breaks, and bytes that were decrypted with a wrong key."""
    return json.loads(output.encode("utf-8", "replace").decode() or "[]", strict=False)


def stanza_of(info: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """Return the entry of one stanza; one that is not there counts as missing."""
    for entry in info:
        if entry.get("name") == name:
            return entry
    return {"name": name, "status": {"code": MISSING_PATH, "message": "missing stanza"}, "backup": []}


def plan(info: Sequence[Mapping[str, Any]], name: str, first_backup: bool) -> list[str]:
    """Return the pgBackRest commands to run, in order. Nothing where there is a usable backup."""
    entry = stanza_of(info, name)
    status = entry["status"]
    code = status["code"]
    if code == OK:
        return []
    if code not in (MISSING_PATH, NO_BACKUP, MISSING_DATA):
        detail = "; ".join(repo["status"]["message"] for repo in entry.get("repo", []) if repo["status"]["code"])
        # What was decrypted with a wrong key is no text.
        text = " ".join(re.sub(r"[^ -~]+", " ", detail or status["message"]).split())[:300]
        if "CryptoError" in text or "FormatError" in text:
            raise RepositoryError("wrong_key", f"{text}. {REMEDIES[95][1]}")
        raise RepositoryError("repository", f"The repository reports: {text}. {REMEDIES[103][1]}")
    steps = ["stanza-create"] if code in (MISSING_PATH, MISSING_DATA) else []
    if steps or first_backup:
        steps.append("check")
    return [*steps, "backup"] if first_backup else steps if code != NO_BACKUP else []


def explain(command: str, code: int, output: str) -> RepositoryError:
    """Return the error that says what failed, what was seen and what to do."""
    reason, remedy = REMEDIES.get(code, ("failed", "See /var/log/pgbackrest on the repository's host."))
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    seen = " ".join(line for line in lines if "ERROR" in line or "HINT" in line or "Error]" in line) or " ".join(lines[-3:])
    return RepositoryError(reason, f"pgbackrest {command} ended with {code}: {seen or 'no output'} {remedy}")
