# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's way to the test hosts of this machine; see tests/harness/enter.py. It is no part of the collection."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from harness import bytecode, enter, warm

DOCUMENTATION = """
name: enter
short_description: Run tasks on a test host by entering its namespaces
description:
  - For hosts that C(scripts/lab.py) made, as root on the machine on which they run.
options:
  remote_addr:
    description: The host's container.
    default: inventory_hostname
    vars: [{name: inventory_hostname}, {name: ansible_host}]
  remote_user:
    description: The user as whom tasks run; without one, root.
    default: ""
    vars: [{name: ansible_user}]
"""

# What a user's own login would have: his groups and his home.
AS_USER = (
    'user=$1; shift; HOME=$(getent passwd "$user" | cut -d: -f6); export HOME; '
    'exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups "$@"'
)
PYTHON = "/usr/bin/python3"
KEPT = enter.KNOWN.parent / "bytecode"
display = Display()


class Connection(ConnectionBase):
    """A connection without state: each command enters anew."""

    transport = "enter"
    has_pipelining = True

    def _connect(self) -> Connection:
        """Nothing is kept open."""
        self._connected = True
        return self

    def close(self) -> None:
        """Nothing is open."""
        self._connected = False

    def _run(self, words: list[str], given: bytes | None = None) -> tuple[int, bytes, bytes]:
        """Run a program; a host that is not there is unreachable."""
        container, user = str(self.get_option("remote_addr")), str(self.get_option("remote_user") or "")
        display.vvv(f"ENTER {words}", host=container)
        if user not in ("", "root"):
            words = ["/bin/sh", "-c", AS_USER, "enter", user, *words]
        try:
            process = enter.start(container, words, stdin=subprocess.PIPE)
        except enter.Closed as closed:
            raise AnsibleConnectionFailure(str(closed)) from None
        return enter.finish(process, given)

    def _run_warm(self, given: bytes) -> tuple[int, bytes, bytes] | None:
        """Have the host's loaded Python run a program; None where it has none."""
        container = str(self.get_option("remote_addr"))
        display.vvv("ENTER a loaded Python", host=container)
        try:
            return warm.run(container, given)
        except enter.Closed as closed:
            raise AnsibleConnectionFailure(str(closed)) from None

    def _enriched(self, content: bytes) -> bytes:
        """Add byte-code of the host's Python to a module; leave anything else alone."""
        try:
            pid = enter.door(str(self.get_option("remote_addr"))).pid
            version = os.readlink(f"/proc/{pid}/root{PYTHON}")
        except (enter.Closed, OSError):
            return content  # the attempt to run it says why, or its Python lies elsewhere
        return bytecode.enrich(content, KEPT / version, Path(constants.DEFAULT_LOCAL_TMP) / "bytecode", self._compile)

    def _compile(self, given: bytes) -> bytes:
        """Have the host's Python compile sources."""
        status, output, errors = self._run([PYTHON, "-c", bytecode.COMPILER], given)
        if status != 0:
            raise AnsibleError(f"the host's Python did not compile a module: {errors.decode(errors='replace')}")
        return output

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a shell line."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if self.become and self.become.expect_prompt() and sudoable:
            raise AnsibleError("this connection enters as root and answers no question for a password")
        given = in_data and self._enriched(in_data)
        if given and warm.possible(cmd) and self.get_option("remote_user") in ("", None, "root"):
            done = self._run_warm(given)
            if done is not None:
                return done
        return self._run([self._play_context.executable, "-c", cmd], given)

    def put_file(self, in_path: str, out_path: str) -> None:
        """Write a file on the host."""
        super().put_file(in_path, out_path)
        try:
            content = self._enriched(Path(in_path).read_bytes())
        except FileNotFoundError:
            raise AnsibleFileNotFound(f"there is no file {in_path}") from None
        status, dummy, errors = self._run(["/bin/sh", "-c", f"cat >{shlex.quote(out_path)}"], content)
        if status != 0:
            raise AnsibleError(f"{out_path} was not written: {errors.decode(errors='replace')}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Read a file of the host."""
        super().fetch_file(in_path, out_path)
        status, content, errors = self._run(["cat", in_path])
        if status != 0:
            raise AnsibleError(f"{in_path} was not read: {errors.decode(errors='replace')}")
        Path(out_path).write_bytes(content)
