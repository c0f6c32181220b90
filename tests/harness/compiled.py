# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what Ansible makes of sources on the controller, from one task to the next and from one run to the next.

Ansible runs each task of each host in a process of its own, which compiles all templates that it needs, and each run packs anew all
modules that it sends. The result depends on the sources alone: here it is made once and found from then on (docs/decisions/0007).
What a template evaluates to is computed each time. `make test-full` does without it.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from types import CodeType
from typing import Any

import jinja2
from ansible.release import __version__ as core
from jinja2.environment import TemplateExpression

from harness import bytecode
from harness.warm import SWITCHED_OFF

KEPT = Path(__file__).resolve().parents[2] / ".cache" / "compiled"
OLD = 86400.0  # seconds after which nobody works any more with the state of the programs that a folder belongs to
# What the parser and the compiler look at in an environment.
SETTINGS = (
    *("block_start_string", "block_end_string", "variable_start_string", "variable_end_string", "comment_start_string"),
    *("comment_end_string", "line_statement_prefix", "line_comment_prefix", "trim_blocks", "lstrip_blocks", "newline_sequence"),
    *("keep_trailing_newline", "optimized", "autoescape", "is_async", "sandboxed"),
)
# The text of the expression that is being compiled; the compiler is given its syntax tree alone.
EXPRESSION: ContextVar[str | None] = ContextVar("expression", default=None)


def folder(programs: Iterable[Path], kept: Path = KEPT) -> Path:
    """Return where to keep what is made of these files and folders as they are now, by these versions of Ansible, Jinja and Python.

    Which arguments a filter is given is part of the code of a template, and what a module imports is packed with it.
    """
    state = [sys.version, core, jinja2.__version__]
    for program in programs:
        for path in sorted([program] if program.is_file() else program.rglob("*.py")):
            seen = path.stat()
            state.append(f"{path} {seen.st_size} {seen.st_mtime_ns}")
    found = kept / hashlib.sha256("\n".join(state).encode()).hexdigest()[:20]
    if not found.is_dir():
        found.mkdir(parents=True, exist_ok=True)
        for other in kept.iterdir():
            if other.stat().st_mtime < time.time() - OLD:
                shutil.rmtree(other, ignore_errors=True)
    return found


def modules(kept: Path, scratch: Path) -> None:
    """Have Ansible find packed modules where earlier runs put them: it looks for them in its directory for this run."""
    kept.mkdir(exist_ok=True)
    place = scratch / "ansiballz_cache"
    if not place.exists():
        place.symlink_to(kept)


def templates(kept: Path, bits: Any) -> None:
    """Have Ansible's environment of templates look for byte-code first. `bits` is the module in which the environment is defined."""
    environment = bits.AnsibleEnvironment
    compiler, expression = environment.compile, environment.compile_expression

    def compile_once(self: Any, source: Any, name: Any = None, filename: Any = None, raw: bool = False, defer_init: bool = False) -> Any:
        if isinstance(source, CodeType):
            return source  # of an expression, see below
        text = source if isinstance(source, str) else EXPRESSION.get()
        if raw or text is None or self._debuggable_template_source:
            return compiler(self, source, name, filename, raw, defer_init)
        whole = isinstance(source, str)
        record = place(kept, [whole, str(text), name, filename, defer_init, *surroundings(self, bits)])
        return once(record, lambda: compiler(self, source, name, filename, raw, defer_init))

    def expression_once(self: Any, source: str, undefined_to_none: bool = True) -> TemplateExpression:
        code = None
        if not self._debuggable_template_source:
            code = found(place(kept, [False, str(source), None, None, False, *surroundings(self, bits)]))
        if code is not None:
            return TemplateExpression(self.from_string(code), undefined_to_none)
        token = EXPRESSION.set(source)
        try:
            return expression(self, source, undefined_to_none)
        finally:
            EXPRESSION.reset(token)

    environment.compile, environment.compile_expression = compile_once, expression_once


def surroundings(environment: Any, bits: Any) -> list[Any]:
    """Return what byte-code depends on beside its text."""
    context = bits._TemplateCompileContext.current(optional=True)
    settings = [getattr(environment, name) for name in SETTINGS]
    escapes = context and context.escape_backslashes
    return [type(environment).__name__, *settings, sorted(environment.extensions), escapes, bits._TemplateConfig.allow_embedded_templates]


def place(kept: Path, asked: list[Any]) -> Path:
    """Return the file of a piece of byte-code."""
    name = hashlib.sha256(repr(asked).encode()).hexdigest()
    return kept / name[:2] / name[2:]


def found(record: Path) -> CodeType | None:
    """Return byte-code that is kept."""
    try:
        return marshal.loads(record.read_bytes())
    except OSError:
        return None


def once(record: Path, make: Callable[[], CodeType]) -> CodeType:
    """Return byte-code that is kept, or make it and keep it. What cannot be compiled is not kept."""
    code = found(record)
    if code is None:
        code = make()
        bytecode.put(record, marshal.dumps(code))
    return code


def possible() -> bool:
    """Tell whether anything may be kept."""
    return not os.environ.get(SWITCHED_OFF)
