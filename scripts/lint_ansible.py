# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-lint without a start of ansible-playbook for each playbook, role and import: the stage `syntax` parses all of them in one."""

from __future__ import annotations

from typing import Any

from ansible_compat.runtime import Runtime
from ansiblelint.__main__ import _run_cli_entrypoint
from ansiblelint.runner import Runner


def without_starts() -> None:
    """Have ansible-lint take it that what `syntax` parses can be parsed; it reads all files and follows what they include as before."""

    def no_matches(self: Runner, *arguments: Any, **named: Any) -> list[Any]:
        return []

    def there(self: Runtime, *arguments: Any, **named: Any) -> bool:
        return True  # that the file exists was asked before

    for owner, name, stand_in in ((Runner, "_get_ansible_syntax_check_matches", no_matches), (Runtime, "has_playbook", there)):
        getattr(owner, name)  # another version of ansible-lint may call it otherwise, and would start all of them again
        setattr(owner, name, stand_in)


if __name__ == "__main__":
    without_starts()
    _run_cli_entrypoint()
