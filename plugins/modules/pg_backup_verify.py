#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_verify
short_description: Prove that a backup can be restored, or say why not
version_added: 0.1.0
description:
  - At the level V(repository) it looks at age and size, at the checksum of every file, and at WAL without a gap from each backup's start
    to the newest segment, across timelines and their histories.
  - At the level V(restore) it restores a backup into a scratch directory and recovers it to O(target), in transient units of systemd
    that have no network and may write nowhere else, with a bound on memory and processor. It has amcheck hold every index against its
    table, runs O(probes), and reads from the platform's heartbeat how much a disaster at this moment would have cost. Then it
    removes everything. What a run that was killed has left is removed by the next one.
  - Runs on the host of the repository as root. The live database is neither asked nor touched.
options:
  stanza:
    description: Name of the stanza.
    type: str
    required: true
  level:
    description: How far the proof goes. V(restore) includes V(repository) but for O(checksums).
    type: str
    choices: [repository, restore]
    default: repository
  repository:
    description: Number of the repository.
    type: int
    default: 1
  checksums:
    description:
      - Read every file of every backup and every segment, and hold each against its checksum. Omitted, it is so at the level
        V(repository); a restore checks the files of its own backup anyway.
    type: bool
  max_age_seconds:
    description: How old the newest backup may be.
    type: float
    default: 108000
  min_size_bytes:
    description: How large the database in the newest backup has to be.
    type: int
    default: 0
  max_archive_age_seconds:
    description: How long ago the newest segment of WAL may have arrived.
    type: float
    default: 300
  max_rpo_seconds:
    description: How old the last heartbeat may be in data that was recovered to the newest point.
    type: float
    default: 300
  rto_target_seconds:
    description: Until a restored server has to serve, as it is promised; V(0) where nothing is. It goes into report and figures.
    type: float
    default: 0
  rpo_target_seconds:
    description: How much may be lost in a disaster, as it is promised; V(0) where nothing is. It goes into report and figures.
    type: float
    default: 0
  targets_required:
    description: A target that is missed is a check that is not good.
    type: bool
    default: false
  backup:
    description: V(newest), V(oldest), V(random) or a label. A time or a position chooses by itself, unless this is a label.
    type: str
    default: newest
  target:
    description:
      - Point to which the backup is recovered. V(immediate) is the end of the backup itself, V(label) the same of the backup that
        O(target_value) names, V(random) a moment between the end of the oldest backup and the newest segment.
    type: str
    choices: [latest, immediate, label, time, lsn, random]
    default: latest
  target_value:
    description: Moment (seconds since the epoch, or a time with its zone), position or label.
    type: str
    default: ""
  amcheck:
    description: Have pg_amcheck look at every table and index of the restored databases.
    type: bool
    default: true
  probes:
    description: Questions to the restored data, each a statement that may only read. The first value of its first row counts.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name in the report.
        type: str
      database:
        description: Database in which it is asked.
        type: str
        required: true
      sql:
        description: One statement.
        type: str
        required: true
      expected:
        description: What it has to answer, as text.
        type: str
      at_least:
        description: The smallest number that it may answer.
        type: float
      timeout:
        description: Seconds that it may take.
        type: int
        default: 60
  scratch:
    description:
      - Directory for what is restored. It needs room for the database and a tenth more, and half a gigabyte; nothing is begun without.
    type: path
    default: /var/lib/uptier/backup-verify
  memory_mb:
    description: Memory that the restored server may use, its cache of files included; V(0) for no limit.
    type: int
    default: 1024
  cpu_percent:
    description: Processor that it may use; 100 is one core, V(0) no limit.
    type: int
    default: 100
  processes:
    description: Processes of the restore and of pg_amcheck.
    type: int
    default: 1
  timeout:
    description: Seconds after which each of restore, server and pg_amcheck is ended.
    type: int
    default: 21600
  network:
    description: Leave the transient units the network, for a repository that is not on this host.
    type: bool
    default: false
  segment_bytes:
    description: Size of a segment of WAL, where initdb was given another one.
    type: int
    default: 16777216
  reports:
    description: Directory for the report as JSON and HTML; empty for none. The newest sixty are kept.
    type: path
  cert:
    description: Certificate, issued by the platform's authority, with which reports are signed.
    type: path
  key:
    description: Its key. Reports are not signed without.
    type: path
  metrics:
    description: File for node_exporter; empty for none.
    type: path
  user:
    description: Operating system's user as whom pgBackRest and the restored server run.
    type: str
    default: postgres
attributes:
  check_mode:
    description: Looks at the repository but for the checksums, and says which backup would be restored to which point. Restores nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Prove the newest backup
  uptier.platform.pg_backup_verify:
    stanza: main
    level: restore
    probes:
      - {name: accounts, database: bank, sql: SELECT count(*) FROM accounts, at_least: 1000}

- name: Prove a random moment from a random backup
  uptier.platform.pg_backup_verify:
    stanza: main
    level: restore
    target: random
"""

RETURN = r"""
ok:
  description: Every check is good. The task fails where it is not.
  returned: always
  type: bool
  sample: true
checks:
  description: What was looked at, in order.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the check.
      returned: always
      type: str
      sample: wal
    ok:
      description: Whether it is good.
      returned: always
      type: bool
      sample: true
    seen:
      description: What was seen and, where it is not good, what to do.
      returned: always
      type: str
      sample: 14 segments from the oldest backup to the newest segment on timeline 3, no gap.
    reason:
      description: Machine-readable cause; empty where all is good.
      returned: always
      type: str
      sample: ""
    seconds:
      description: How long it took.
      returned: always
      type: float
      sample: 0.2
rto_seconds:
  description: Seconds from the beginning of the restore until the restored server served; null where nothing was restored.
  returned: always
  type: float
  sample: 15.6
rpo_seconds:
  description:
    - Age of the last heartbeat in the restored data when the restored server served, so what a disaster would have cost at that moment.
    - Null for a target other than V(latest).
  returned: always
  type: float
  sample: 42.1
targets:
  description: What was promised of both, as C(rto) and C(rpo) in seconds; what is not promised is not there.
  returned: always
  type: dict
  sample: {rto: 3600, rpo: 300}
restored_bytes:
  description: Size of the restored database.
  returned: always
  type: int
  sample: 25311012
backup:
  description: Label of the backup that was restored.
  returned: always
  type: str
  sample: 20261126-171201F
point:
  description: The backup and the point to which it was recovered.
  returned: always
  type: str
  sample: 20261126-171201F to latest
unproven_since:
  description: Oldest moment that this proof has not reached, in seconds since the epoch.
  returned: always
  type: float
  sample: 1795713167.2
phases:
  description: Seconds of restore and recovery.
  returned: always
  type: dict
  sample: {restore: 6.6, recovery: 9.0}
report:
  description: The report as JSON; the HTML and the signatures (C(.p7s)) lie beside it.
  returned: with O(reports)
  type: str
  sample: /var/lib/uptier/backup-reports/main-20261126T172440Z.json
reason:
  description: Machine-readable cause of a failure, that of the first check that is not good.
  returned: on failure
  type: str
  sample: wal_missing
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_report import summary
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_verify_apply import Verification
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError

PROBE = {
    "name": {"type": "str"},
    "database": {"type": "str", "required": True},
    "sql": {"type": "str", "required": True},
    "expected": {"type": "str"},
    "at_least": {"type": "float"},
    "timeout": {"type": "int", "default": 60},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "level": {"type": "str", "choices": ["repository", "restore"], "default": "repository"},
            "repository": {"type": "int", "default": 1},
            "checksums": {"type": "bool"},
            "max_age_seconds": {"type": "float", "default": 108000},
            "min_size_bytes": {"type": "int", "default": 0},
            "max_archive_age_seconds": {"type": "float", "default": 300},
            "max_rpo_seconds": {"type": "float", "default": 300},
            "rto_target_seconds": {"type": "float", "default": 0},
            "rpo_target_seconds": {"type": "float", "default": 0},
            "targets_required": {"type": "bool", "default": False},
            "backup": {"type": "str", "default": "newest"},
            "target": {"type": "str", "choices": ["latest", "immediate", "label", "time", "lsn", "random"], "default": "latest"},
            "target_value": {"type": "str", "default": ""},
            "amcheck": {"type": "bool", "default": True},
            "probes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": PROBE,
                "mutually_exclusive": [("expected", "at_least")],
            },
            "scratch": {"type": "path", "default": "/var/lib/uptier/backup-verify"},
            "memory_mb": {"type": "int", "default": 1024},
            "cpu_percent": {"type": "int", "default": 100},
            "processes": {"type": "int", "default": 1},
            "timeout": {"type": "int", "default": 21600},
            "network": {"type": "bool", "default": False},
            "segment_bytes": {"type": "int", "default": 16777216},
            "reports": {"type": "path"},
            "cert": {"type": "path"},
            "key": {"type": "path", "no_log": False},
            "metrics": {"type": "path"},
            "user": {"type": "str", "default": "postgres"},
        },
        required_if=[("target", kind, ["target_value"]) for kind in ("label", "time", "lsn")],
        required_together=[("cert", "key")],
        supports_check_mode=True,
    )
    given = {name: value for name, value in module.params.items() if name != "stanza" and value is not None}
    try:
        found = Verification(module.params["stanza"], given, plan_only=module.check_mode).run()
    except PostgresqlError as error:
        module.fail_json(msg=str(error), reason=error.reason, ok=False)
    # It changes nothing but the report and the figures that it was asked for.
    found["changed"] = not module.check_mode and bool(given.get("reports") or given.get("metrics"))
    if not found["ok"]:
        module.fail_json(msg=summary(found), **found)
    module.exit_json(msg=summary(found), **found)


if __name__ == "__main__":
    main()
