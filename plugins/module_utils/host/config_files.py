# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plan for a bundle of configuration files: what is there, what shall be there, what differs.

The planner is pure: it compares two descriptions and touches nothing. Modes are integers,
owner and group are names (or None where the caller does not care).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field


class BundleError(Exception):
    """A bundle could not be written; `reason` is for programs, the message for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Wanted:
    """One path as the caller wants it."""

    path: str
    state: str = "file"  # file, directory, link or absent
    content: str | None = None
    target: str | None = None
    owner: str | None = "root"
    group: str | None = "root"
    mode: int | None = None
    secret: bool = False
    keep: bool = False  # create it when missing, never overwrite what is there


@dataclass(frozen=True)
class Seen:
    """One path as it is on the host; kind is file, directory, link, other or absent."""

    kind: str = "absent"
    content: str | None = None
    target: str | None = None
    owner: str | None = None
    group: str | None = None
    mode: int | None = None


@dataclass
class Step:
    """One difference. `facets` says what differs: create, content, type, target, owner, group, mode, remove."""

    wanted: Wanted
    seen: Seen
    facets: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return self.wanted.path


def wanted_mode(path: str, text: str | None, state: str, secret: bool) -> int | None:
    """Return the mode as a number. A secret is never readable for everyone, neither by default nor by mistake."""
    if text is None:
        files = 0o640 if secret else 0o644
        return {"file": files, "directory": 0o755}.get(state)
    if not re.fullmatch(r"[0-7]{3,4}", text):
        raise BundleError("bad_mode", f"{path}: mode is {text!r}; give octal digits in quotes, as in '0640'.")
    mode = int(text, 8)
    if secret and mode & 0o007:
        raise BundleError(
            "secret_exposed",
            f"{path}: the file holds a secret, and mode {text} opens it to everyone. Use '0600' or '0640'.",
        )
    return mode


def plan(wanted: list[Wanted], seen: dict[str, Seen]) -> list[Step]:
    """Return the steps that turn `seen` (by path) into `wanted`, in the order given."""
    steps = []
    for item in wanted:
        now = seen.get(item.path, Seen())
        facets = _facets(item, now)
        if facets:
            steps.append(Step(item, now, facets))
    return steps


def _facets(item: Wanted, now: Seen) -> list[str]:
    if item.state == "absent":
        return [] if now.kind == "absent" else ["remove"]
    if now.kind == "absent":
        return ["create"]
    if item.keep:
        return []
    if now.kind != item.state:
        return ["type"]
    facets = []
    if item.state == "link":
        return ["target"] if now.target != item.target else []
    if item.state == "file" and item.content is not None and now.content != item.content:
        facets.append("content")
    if item.owner is not None and now.owner != item.owner:
        facets.append("owner")
    if item.group is not None and now.group != item.group:
        facets.append("group")
    if item.mode is not None and now.mode != item.mode:
        facets.append("mode")
    return facets


def describe(step: Step) -> dict[str, str]:
    """Return one entry for Ansible's `diff`: unified text, or a remark where the content is secret or not text."""
    header = f"{step.path} ({', '.join(step.facets)})"
    lines = []
    for facet in ("owner", "group"):
        if facet in step.facets:
            lines.append(f"{facet}: {getattr(step.seen, facet)} -> {getattr(step.wanted, facet)}\n")
    if "mode" in step.facets:
        lines.append(f"mode: {step.seen.mode or 0:04o} -> {step.wanted.mode or 0:04o}\n")
    if "target" in step.facets:
        lines.append(f"target: {step.seen.target} -> {step.wanted.target}\n")
    if step.wanted.state == "file" and {"content", "create", "type"} & set(step.facets):
        if step.wanted.secret:
            lines.append("(content not shown: the file holds a secret)\n")
        elif any("\udc80" <= letter <= "\udcff" for letter in step.seen.content or ""):
            lines.append("(content not shown: the file on the host is not text)\n")
        else:
            before = (step.seen.content or "").splitlines(keepends=True)
            after = (step.wanted.content or "").splitlines(keepends=True)
            lines.extend(
                line if line.endswith("\n") else line + "\n"
                for line in difflib.unified_diff(before, after, f"{step.path} (before)", f"{step.path} (after)")
            )
    return {"prepared": f"{header}\n{''.join(lines)}"}
