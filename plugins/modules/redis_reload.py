#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_reload
short_description: Make the running Redis processes of a host take over their files
version_added: 0.1.0
description:
  - Compares what each process runs with to its configuration file and applies what Redis can take over while it runs.
  - Users are replaced one by one with ACL SETUSER, because ACL LOAD of Redis 7.0 cuts every connection. Certificates are reread.
  - What Redis reads only at its start needs a restart. With O(restart=replicas) replicas are restarted, with
    O(restart=all) masters too, each after C(CLUSTER FAILOVER) to one of its replicas. It takes its slots back
    when it is in sync again, so that the masters stay spread over the hosts.
  - Call it for all hosts with V(replicas) before V(all), and with C(throttle=1), so that never two nodes are away at a time.
  - A process that cannot be told anything, because its certificate ran out or it knows no password of ours, is restarted at once,
    also with O(restart=none).
  - Restarts only what needs it, so it can be called at any time; it finds nothing to do when files and processes agree.
  - With O(program) a process that runs another build than the installed program needs a restart too. One whose program was replaced
    by that of an older release is not restarted (C(downgrade)).
  - With O(nodes) a process is restarted only while the whole cluster is well - all slots served as every node sees it, every
    replica in sync - and that is waited for before each.
  - Logs in with the password that worked last (O(credentials_file)) where the new one is not known to a process yet. So a
    changed administrator's password needs no restart.
options:
  address:
    description: Address on which the processes of this host listen.
    type: str
    required: true
  ports:
    description: Their ports.
    type: list
    elements: int
    required: true
  config_file:
    description: Configuration file that the processes share.
    type: path
    default: /etc/redis/node.conf
  acl_file:
    description: ACL file that the processes share.
    type: path
    default: /etc/redis/users.acl
  read_at_start:
    description: Further files that are read only when a process starts, as its unit. A process older than one of them is restarted.
    type: list
    elements: path
    default: []
  unit:
    description: Name of the systemd unit of a process; C({port}) stands for its port.
    type: str
    default: redis-node@{port}.service
  restart:
    description: Which processes may be restarted in this call.
    type: str
    choices: [none, replicas, all]
    default: none
  started_before:
    description:
      - Seconds since 1970 by the clock of the host. Processes that started before it are restarted though nothing waits for that.
        0 for none.
    type: float
    default: 0
  program:
    description: The installed program, which says with C(--version) what a process would run after a restart. Without it no build is compared.
    type: path
  nodes:
    description: All nodes of the cluster, as in M(uptier.platform.redis_cluster). Without them only the neighbours of a process are looked at.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the host.
        type: str
        required: true
      address:
        description: Address on which the node listens.
        type: str
        required: true
      port:
        description: Port.
        type: int
        default: 6379
      zone:
        description: Failure domain of the host.
        type: str
        default: ""
  masters:
    description: Number of nodes that hold slots. Needed with O(nodes).
    type: int
    default: 1
  replicas_per_master:
    description: Number of replicas of each of them.
    type: int
    default: 0
  passwords:
    description:
      - Which passwords are accepted. V(exact), those of O(acl_file). V(kept), besides them those that are accepted now, so that clients
        can take over a changed one whenever they want.
      - V(retired) does nothing but end that.
    type: str
    choices: [exact, kept, retired]
    default: exact
  credentials_file:
    description: Root-only file in which the administrator's password that worked last is kept.
    type: path
    default: /var/lib/uptier/redis-admin
  timeout:
    description: Seconds to wait for a failover, and for a restarted process to be in sync again.
    type: float
    default: 120
attributes:
  check_mode:
    description: Reports what differs and what would be restarted.
    support: full
  diff_mode:
    description: Returns the settings in RV(applied) instead.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
extends_documentation_fragment:
  - uptier.platform.redis
seealso:
  - module: uptier.platform.redis_cluster
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Take over what needs no restart
  uptier.platform.redis_reload:
    address: 10.0.0.11
    ports: [6379, 6380]
    password: "{{ vault_redis_admin_password }}"

- name: Restart masters whose settings need it, one at a time
  uptier.platform.redis_reload:
    address: 10.0.0.11
    ports: [6379, 6380]
    password: "{{ vault_redis_admin_password }}"
    restart: all
  throttle: 1
"""

RETURN = r"""
applied:
  description: Settings and users that were taken over without a restart.
  returned: success
  type: list
  elements: str
  sample: ["app1:6379 maxmemory: 268435456 -> 512mb"]
failed_over:
  description: Masters that handed their slots over before they were restarted.
  returned: success
  type: list
  elements: str
restarted:
  description: Processes that were restarted, and why.
  returned: success
  type: list
  elements: str
  sample: ["app1:6380 (databases: 16 -> 32)"]
reason:
  description:
    - Machine-readable cause of a failure. C(not_running), C(setting_refused), C(no_healthy_replica), C(not_healthy),
      C(restart_failed), C(file_missing), C(not_whole), C(downgrade).
  returned: on failure
  type: str
  sample: no_healthy_replica
"""

import os
import socket

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file
from ansible_collections.uptier.platform.plugins.module_utils.redis import config
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import (
    Cluster,
    dialler,
    redis_common_argument_spec,
    redis_shape_argument_spec,
    shape_of,
)
from ansible_collections.uptier.platform.plugins.module_utils.redis.reload_apply import Files, Instance


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except OSError as error:
        raise Refusal("file_missing", f"{path} cannot be read: {error.strerror}. Write the configuration before it is applied.") from error


def remembered(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def remember(path: str, password: str) -> None:
    if remembered(path) == password:
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    replace_file(path, password, 0o600)


def main() -> None:
    declared = {key: value for key, value in redis_shape_argument_spec()["nodes"].items() if key != "required"}
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "int", "required": True},
            "config_file": {"type": "path", "default": "/etc/redis/node.conf"},
            "acl_file": {"type": "path", "default": "/etc/redis/users.acl"},
            "read_at_start": {"type": "list", "elements": "path", "default": []},
            "unit": {"type": "str", "default": "redis-node@{port}.service"},
            "restart": {"type": "str", "choices": ["none", "replicas", "all"], "default": "none"},
            "started_before": {"type": "float", "default": 0},
            "program": {"type": "path"},
            "nodes": {**declared, "default": []},
            "masters": {"type": "int", "default": 1},
            "replicas_per_master": {"type": "int", "default": 0},
            "passwords": {"type": "str", "choices": ["exact", "kept", "retired"], "default": "exact"},
            "credentials_file": {"type": "path", "default": "/var/lib/uptier/redis-admin"},
            "timeout": {"type": "float", "default": 120},
            **redis_common_argument_spec(),
        },
        supports_check_mode=True,
    )
    options = module.params

    def restart(port: int) -> None:
        unit = options["unit"].replace("{port}", str(port))
        code, out, err = module.run_command(["systemctl", "restart", unit])
        if code:
            raise Refusal(
                "restart_failed", f"{unit} did not start: {(err or out).strip()}. Nothing else was restarted. See its journal.", unit
            )

    cluster = Cluster(shape_of(options), dialler(options), options["timeout"])

    def whole() -> str:
        return cluster.whole(cluster.look()) if options["nodes"] else ""

    before = remembered(options["credentials_file"])
    dials = [dialler(options)] + ([dialler(options, before)] if before and before != options["password"] else [])
    instances = []
    try:
        if not (module.check_mode and not os.path.exists(options["config_file"])):
            times = [os.stat(path).st_mtime for path in options["read_at_start"] if os.path.exists(path)]
            version, build = "", ""
            if options["program"] and os.path.exists(options["program"]):
                version, build = config.parse_program(module.run_command([options["program"], "--version"])[1])
            files = Files(
                config.parse_config(read(options["config_file"])), config.parse_acl(read(options["acl_file"])), times, version, build
            )
            name = socket.gethostname()
            nodes = [Node(name, options["address"], port) for port in options["ports"]]
            keep = options["passwords"] == "kept"
            rest = {"keep": keep, "before": options["started_before"], "whole": whole}
            instances = [Instance(node, files, dials, restart, options["timeout"], module.check_mode, **rest) for node in nodes]
        for instance in instances:
            if options["passwords"] == "retired":
                instance.retire()
            elif options["restart"] == "none":
                instance.apply()
            else:
                instance.roll(options["restart"])
        if options["restart"] != "replicas" and not module.check_mode:
            remember(options["credentials_file"], options["password"])
    except Refusal as error:
        module.fail_json(msg=str(error), reason=error.reason, node=error.node)
    reports = [instance.report for instance in instances]
    applied = [text for report in reports for text in report.applied]
    restarted = [text for report in reports for text in report.restarted]
    module.exit_json(
        changed=bool(applied or restarted),
        applied=applied,
        failed_over=[text for report in reports for text in report.failed_over],
        restarted=restarted,
    )


if __name__ == "__main__":
    main()
