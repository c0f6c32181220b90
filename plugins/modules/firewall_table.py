#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_table
short_description: Load the platform's nftables table without locking anybody out
version_added: 0.1.0
description:
  - Owns the table C(inet platform) with default drop on input and forward, and no other table.
  - New rules are checked (C(nft -c)), then loaded in one transaction. Before that a timer is armed on the host that puts the
    previous rules back. The controller then makes a new connection; only when that works are the rules confirmed, the
    timer stopped, and the rules written to O(path), from where they are loaded at boot.
  - A run that is killed in between leaves the previous rules, also after a reboot.
  - Rules changed by hand in our table count as a difference.
options:
  rules:
    description: What the host accepts; made by the filter C(uptier.platform.firewall_rules).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the flow; becomes the rule's comment.
        type: str
        required: true
      protocol:
        description: Protocol.
        type: str
        choices: [tcp, udp, icmp, vrrp]
        required: true
      ports:
        description: Ports on this host.
        type: list
        elements: int
        default: []
      sources:
        description: Addresses and networks, or V(any), or V(admin).
        type: list
        elements: str
        required: true
  admin:
    description: Addresses and networks of administrators.
    type: list
    elements: str
    default: []
  admit_controller:
    description: Count the address from which this connection comes, as the host sees it, among the administrators.
    type: bool
    default: true
  forward:
    description: Interfaces of containers (C(*) at the end allowed) that may open connections through this host.
    type: list
    elements: str
    default: []
  log:
    description: Log what is dropped, ten lines a minute at most.
    type: bool
    default: true
  rollback_seconds:
    description: Seconds after which unconfirmed rules are taken back.
    type: int
    default: 60
  path:
    description: File that holds the confirmed rules.
    type: path
    default: /etc/uptier/firewall.nft
  phase:
    description: Step of the exchange. Filled in by the action plugin; do not set it.
    type: str
    choices: [look, compare, try, confirm]
    default: look
  text:
    description: Rendered rules. Filled in by the action plugin; do not set it.
    type: str
    default: ""
attributes:
  check_mode:
    description: Compares and checks, loads nothing.
    support: full
  diff_mode:
    description: Shows the rules as a unified diff.
    support: full
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Service | Load the rules
  uptier.platform.firewall_table:
    rules: "{{ [] | uptier.platform.firewall_rules(inventory_hostname, groups, hostvars) }}"
    admin: [192.0.2.0/24]
"""

RETURN = r"""
controller:
  description: Address of the controller as the host sees it; empty where the connection is no SSH connection.
  returned: always
  type: str
  sample: 192.0.2.7
drift:
  description: Whether the loaded rules are not those that were confirmed last.
  returned: always
  type: bool
reason:
  description: Machine-readable cause of a failure.
  returned: on failure
  type: str
  sample: rolled_back
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule

TABLE = ["table", "inet", "platform"]
RUN = "/run/uptier/firewall"
CONFIRMED = "/var/lib/uptier/firewall.loaded"
TIMER = "platform-firewall-rollback"


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".firewall.")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(handle)
    os.replace(temporary, path)


def controller_address() -> str:
    """Return the client of the SSH session above this process. sudo clears the environment, so ask the parents."""
    pid = os.getpid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/environ", "rb") as stream:
                variables = dict(item.split(b"=", 1) for item in stream.read().split(b"\0") if b"=" in item)
            if b"SSH_CONNECTION" in variables:
                return variables[b"SSH_CONNECTION"].split()[0].split(b"%")[0].decode()
            with open(f"/proc/{pid}/stat", "rb") as stream:
                pid = int(stream.read().rsplit(b")", 1)[1].split()[1])
        except (OSError, IndexError, ValueError):
            return ""
    return ""


class Host:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.nft = module.get_bin_path("nft", opt_dirs=["/usr/sbin"])

    def run(self, *command: str, reason: str) -> str:
        code, out, err = self.module.run_command(list(command))
        if code:
            self.module.fail_json(msg=f"{' '.join(command)} ended with {code}: {(err or out).strip()}", reason=reason)
        return out

    def loaded(self) -> str:
        """Return our table as it is now, without counters; empty when there is none."""
        if self.nft is None:
            return ""
        code, out, dummy = self.module.run_command([self.nft, "--stateless", "list", *TABLE])
        return out if code == 0 else ""

    def require_nft(self) -> str:
        if self.nft is None:
            self.module.fail_json(msg="The command nft is not on this host. Install the package nftables first.", reason="nft_missing")
        return str(self.nft)

    def compare(self, text: str, path: str) -> dict:
        if self.nft is None and not self.module.check_mode:
            self.require_nft()
        confirmed, running = read(path), self.loaded()
        drift = running != read(CONFIRMED) or not running
        changed = confirmed != text or drift
        if changed and self.nft:
            candidate = f"{RUN}/candidate.nft" if not self.module.check_mode else os.path.join(self.module.tmpdir, "candidate.nft")
            write(candidate, text)
            self.run(self.nft, "-c", "-f", candidate, reason="invalid_rules")
        diff = {"before": confirmed, "after": text, "before_header": path, "after_header": path}
        return {"changed": changed, "drift": drift, "diff": diff}

    def attempt(self, text: str, seconds: int) -> dict:
        """Load the rules after arming the timer that takes them back."""
        nft, previous, candidate = self.require_nft(), f"{RUN}/previous.nft", f"{RUN}/candidate.nft"
        code, dummy, dummy2 = self.module.run_command(["systemctl", "--quiet", "is-active", f"{TIMER}.timer"])
        if code == 0:  # an earlier run was cut short: its rules were never confirmed
            self.run(nft, "-f", previous, reason="rollback_failed")
            self.disarm()
        name = " ".join(TABLE)
        write(previous, f"{name} {{}}\ndelete {name}\n{self.loaded()}")
        write(candidate, text)
        self.run(
            "systemd-run",
            "--collect",
            f"--unit={TIMER}",
            f"--on-active={seconds}",
            "--timer-property=AccuracySec=1s",
            nft,
            "-f",
            previous,
            reason="timer_failed",
        )
        self.run(nft, "-f", candidate, reason="load_failed")
        write(f"{RUN}/tried", self.loaded())
        return {"changed": True}

    def disarm(self) -> None:
        self.run("systemctl", "stop", f"{TIMER}.timer", reason="timer_failed")

    def confirm(self, path: str) -> dict:
        code, dummy, dummy2 = self.module.run_command(["systemctl", "stop", f"{TIMER}.timer"])
        running = self.loaded()
        if running != read(f"{RUN}/tried") or not running:
            return {"changed": False, "confirmed": False}
        write(path, read(f"{RUN}/candidate.nft"))
        write(CONFIRMED, running)
        return {"changed": True, "confirmed": True}


def main() -> None:
    rule = {
        "name": {"type": "str", "required": True},
        "protocol": {"type": "str", "required": True, "choices": ["tcp", "udp", "icmp", "vrrp"]},
        "ports": {"type": "list", "elements": "int", "default": []},
        "sources": {"type": "list", "elements": "str", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "rules": {"type": "list", "elements": "dict", "required": True, "options": rule},
            "admin": {"type": "list", "elements": "str", "default": []},
            "admit_controller": {"type": "bool", "default": True},
            "forward": {"type": "list", "elements": "str", "default": []},
            "log": {"type": "bool", "default": True},
            "rollback_seconds": {"type": "int", "default": 60},
            "path": {"type": "path", "default": "/etc/uptier/firewall.nft"},
            "phase": {"type": "str", "choices": ["look", "compare", "try", "confirm"], "default": "look"},
            "text": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    host, given = Host(module), module.params
    if given["phase"] == "compare":
        result = host.compare(given["text"], given["path"])
    elif given["phase"] == "try" and not module.check_mode:
        result = host.attempt(given["text"], given["rollback_seconds"])
    elif given["phase"] == "confirm" and not module.check_mode:
        result = host.confirm(given["path"])
    else:
        keys = ("rules", "admin", "admit_controller", "forward", "log", "rollback_seconds")
        result = {"changed": False, "controller": controller_address(), "parameters": {key: given[key] for key in keys}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
