#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_adopt
short_description: Take over a PostgreSQL cluster of Debian's where it lies
version_added: 0.1.0
description:
  - Looks at the cluster C(main) of Debian's kind (settings in C(/etc/postgresql/VERSION/main), data in C(/var/lib/postgresql/VERSION/main)), and
    refuses where something would be lost by adopting it. It has to run for that.
  - Keeps its settings and C(pg_hba.conf) in C(/var/lib/postgresql/VERSION/adopted), stops it, and has Patroni lead its data directory.
    Patroni's configuration and unit have to be there already.
  - Nothing is copied and no row is written. Where a run is killed, the next one goes on.
  - Does nothing where there is no such cluster, or where it has been adopted.
options:
  state:
    description:
      - V(examined) looks at it and says on which port it runs, so that Patroni's users can be made there.
      - V(present) adopts it.
    type: str
    choices: [examined, present]
    default: present
  version:
    description: Major version.
    type: str
    required: true
  port:
    description: Port of the server once it is adopted. Needed to adopt it.
    type: int
  preload:
    description: Libraries that are loaded at its start once it is adopted.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds for it to stop, and again for Patroni to lead it.
    type: int
    default: 120
attributes:
  check_mode:
    description: Examines it, and stops nothing.
    support: full
  diff_mode:
    description: Shows the steps.
    support: full
  platform:
    description: Target platforms.
    platforms: debian
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Adopt | Have Patroni lead it
  uptier.platform.pg_adopt:
    version: "17"
    port: "{{ postgresql_port }}"
    preload: [pg_stat_statements]
"""

RETURN = r"""
running_port:
  description: Port on which the cluster runs before it is adopted; 0 where none does.
  returned: always
  type: int
  sample: 5432
outage_seconds:
  description: For how long there was no server that took writes.
  returned: when it was adopted
  type: float
  sample: 6.2
reason:
  description: Machine-readable cause of a failure. One of C(not_adoptable), C(not_running), C(adoption_failed), C(no_leader).
  returned: on failure
  type: str
  sample: not_adoptable
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import adopt
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.adopt_apply import Cluster
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["examined", "present"], "default": "present"},
            "version": {"type": "str", "required": True},
            "port": {"type": "int"},
            "preload": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 120},
        },
        required_if=[("state", "present", ["port"])],
        supports_check_mode=True,
    )
    given = module.params
    cluster = Cluster(module, given["version"], given["port"] or 0)
    unfinished = not cluster.is_somebodys and cluster.waits_for_patroni
    if not cluster.is_somebodys and not unfinished:
        module.exit_json(changed=False, running_port=0)
    try:
        port = cluster.port_now()
        seen = cluster.examine(port, given["preload"]) if port else cluster.begun()
        if seen is None:
            raise PostgresqlError(
                "not_running",
                f"The cluster {given['version']}/main does not run, so nobody knows what is in it. Start it (pg_ctlcluster {given['version']} main "
                "start) and run again.",
            )
        steps = [f"keep {cluster.config} in {cluster.kept}", f"stop {given['version']}/main", f"have Patroni lead {cluster.data}"]
        result = {"running_port": port, "diff": {"before": "", "after": "".join(f"{step}\n" for step in steps)}}
        if given["state"] == "examined" or module.check_mode:
            module.exit_json(changed=given["state"] == "present", **result)
        if not unfinished:
            cluster.keep(seen)
        result["outage_seconds"] = round(cluster.take(given["timeout"]), 1)
    except PostgresqlError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    module.warn(f"The cluster {given['version']}/main is the platform's. For {result['outage_seconds']} s it took no writes.")
    for remark in adopt.remarks(seen, cluster.kept):
        module.warn(remark)
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
