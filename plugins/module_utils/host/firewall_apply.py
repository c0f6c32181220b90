# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The firewall of a host as it is: rules are loaded under a timer that takes them back, and kept once they are confirmed."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file

TABLE = ["table", "inet", "platform"]
RUN = "/run/uptier/firewall"
CONFIRMED = "/var/lib/uptier/firewall.loaded"
TIMER = "platform-firewall-rollback"


class HostError(Exception):
    """Something went wrong; `reason` is for machines, the text for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    replace_file(path, text, 0o600)


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
    """The table on this host, the file from which it is loaded at boot, and what was tried last."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.nft = module.get_bin_path("nft", opt_dirs=["/usr/sbin"])

    def run(self, *command: str, reason: str) -> str:
        code, out, err = self.module.run_command(list(command))
        if code:
            raise HostError(reason, f"{' '.join(command)} ended with {code}: {(err or out).strip()}")
        return str(out)

    def loaded(self) -> str:
        """Return our table as it is now, without counters; empty when there is none."""
        if self.nft is None:
            return ""
        code, out, dummy = self.module.run_command([self.nft, "--stateless", "list", *TABLE])
        return str(out) if code == 0 else ""

    def require_nft(self) -> str:
        if self.nft is None:
            raise HostError("nft_missing", "The command nft is not on this host. Install the package nftables first.")
        return str(self.nft)

    def compare(self, text: str, path: str) -> dict[str, Any]:
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

    def attempt(self, text: str, seconds: int) -> dict[str, Any]:
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

    def confirm(self, path: str) -> dict[str, Any]:
        code, dummy, dummy2 = self.module.run_command(["systemctl", "stop", f"{TIMER}.timer"])
        running = self.loaded()
        if running != read(f"{RUN}/tried") or not running:
            return {"changed": False, "confirmed": False}
        write(path, read(f"{RUN}/candidate.nft"))
        write(CONFIRMED, running)
        return {"changed": True, "confirmed": True}
