# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify the backups of this host, as the module pg_backup_verify does, for a timer and for whoever is logged in.

pgbackrest_verify.py CONFIG [NAME=VALUE ...]    verify; options of the module, given as JSON where they are no text
pgbackrest_verify.py CONFIG --check REPORT ...  hold reports against their signatures

CONFIG is JSON: {"stanza": ..., "options": {...}, "second": {...}, "ca": ...}; `second` has what differs for a second repository, which is verified
after the first one, unless options are given here. Ends with 0 where all is good, with 1 where something is not, and with 2 where nothing
could be verified.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_report import summary
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_verify_apply import Verification, check_report
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError


def given_options(words: list[str]) -> dict[str, Any]:
    """Return options from NAME=VALUE; a value that is no JSON is a text."""
    found: dict[str, Any] = {}
    for word in words:
        name, dummy, value = word.partition("=")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def main(arguments: list[str]) -> int:
    if not arguments or "--help" in arguments:
        print(__doc__)
        return 0 if arguments else 2
    config = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        if arguments[1:2] == ["--check"]:
            for path in arguments[2:]:
                check_report(path, config["ca"])
                print(f"{path} is as it was signed.")
            return 0
    except PostgresqlError as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        return 2
    asked, second = given_options(arguments[1:]), config.get("second") or {}
    if asked.get("repository") == 2:
        asked = {**second, **asked}
    runs = [{}, second] if second and not asked else [asked]
    return max(verify(config["stanza"], {**config["options"], **options}) for options in runs)


def verify(stanza: str, options: dict[str, Any]) -> int:
    """Verify one repository and say what was seen; return the status."""
    try:
        result = Verification(stanza, options).run()
    except PostgresqlError as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        return 2
    for check in result["checks"]:
        print(f"{'good' if check['ok'] else check['reason']:<20} {check['name']} ({check['seconds']:.1f} s): {check['seen']}")
    failed = [check["reason"] for check in result["checks"] if not check["ok"]]
    if failed:
        where = f"{stanza}, repository {result['repository']}"
        print(f"{where}: {len(failed)} of {len(result['checks'])} checks are not good: {', '.join(failed)}.", file=sys.stderr)
        return 1
    print(summary(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
