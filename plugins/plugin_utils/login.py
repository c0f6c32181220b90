# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether Ansible can still log in once SSH is hardened, by the way on which it really came. Pure.

Variables do not tell that way: user and bastion may stand in the controller's ~/.ssh/config alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed
from ansible_collections.uptier.platform.plugins.plugin_utils.topology import is_jump, names_of

FOUNDATION = ("gateway", "app", "postgresql", "etcd", "redis", "monitoring", "backup")


def switched(value: Any, otherwise: bool) -> bool:
    """Return a variable of a host as a boolean; what is none is for the role to refuse."""
    try:
        return otherwise if value is None else bool(boolean(value))
    except TypeError:
        return otherwise


def problems(
    probes: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[Problem]:
    found: list[Problem] = []
    hardened = [host for host in groups.get("all", ()) if any(host in groups.get(group, ()) for group in FOUNDATION)]
    ways = {host: probes.get(host, {}).get("login") or {} for host in hardened}
    # An address of SSH says that it is SSH; other connections have none.
    over_ssh = {host: way for host, way in ways.items() if way.get("from") and switched(hostvars[host].get("hardening_ssh"), True)}
    roots = [
        host
        for host, way in over_ssh.items()
        if way["user"] == "root" and not switched(hostvars[host].get("hardening_ssh_root_login"), False)
    ]
    if roots:
        found.append(
            Problem(
                f"host{'s' if len(roots) > 1 else ''} {listed(roots)}",
                "is reached as root, who could not log in any more once SSH is hardened"
                if len(roots) == 1
                else "are reached as root, who could not log in any more once SSH is hardened",
                "Log in as a user with sudo (ansible_user, or User in ~/.ssh/config) and set ansible_become: true; or set "
                "hardening_ssh_root_login: true.",
            )
        )
    for host, way in over_ssh.items():
        users = hostvars[host].get("hardening_ssh_users") or ()
        if users and way["user"] != "root" and way["user"] not in users:
            found.append(
                Problem(
                    f"host {host}",
                    f"is reached as {way['user']}, who is not in hardening_ssh_users ({listed(users)}) and could not log in any more",
                    f"Name {way['user']} there too, or log in as one of them.",
                )
            )
    for host in hardened:
        names = names_of(host, hostvars[host])
        # From where Ansible itself runs nobody goes through.
        if not ways[host].get("from") or ways[host]["from"] in {*names, "127.0.0.1", "::1"}:
            continue
        through = [other for other, way in over_ssh.items() if other != host and way["from"] in names]
        otherwise = host in groups.get("gateway", ()) or is_jump(host, hostvars)
        if (
            through
            and switched(hostvars[host].get("hardening_ssh"), True)
            and not switched(hostvars[host].get("hardening_ssh_jump"), otherwise)
        ):
            found.append(
                Problem(
                    f"host{'s' if len(through) > 1 else ''} {listed(through)}",
                    f"{'are' if len(through) > 1 else 'is'} reached through {host}, whose SSH server would pass on no connection once it is hardened",
                    f"Set hardening_ssh_jump: true for {host}.",
                )
            )
    return found
