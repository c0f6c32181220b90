# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of templates is what Ansible would have compiled, and is kept for this state of the programs alone."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import pytest
from ansible._internal._templating import _jinja_bits as bits
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateSyntaxError

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from harness import compiled  # noqa: E402

PIECES = [
    "{{ a }}",
    "{{ 'b\\\\n' }}",
    "{% if a %}",
    "{% endif %}",
    "a",
    "'a'",
    "a | default(1)",
    "\\",
    "\n",
    " ",
    "é",
    "{# c #}",
    "{{",
    "}}",
    "1",
    "True",
]
SOURCES = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=6).map("".join)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """Ansible's environment looks into a folder that is empty."""
    environment = bits.AnsibleEnvironment
    former = vars(environment).copy()
    compiled.templates(tmp_path, bits)
    yield tmp_path
    del environment.compile
    environment.compile_expression = former["compile_expression"]
    assert vars(environment).keys() == former.keys()


def outcome(make: Any, escapes: bool) -> Any:
    """Return byte-code by what it consists of, or the error."""

    def parts(code: CodeType) -> list[Any]:
        constants = [parts(constant) if isinstance(constant, CodeType) else repr(constant) for constant in code.co_consts]
        return [code.co_code, code.co_names, code.co_varnames, code.co_filename, constants]

    with bits._TemplateCompileContext(escape_backslashes=escapes):
        try:
            made = make()
        except TemplateSyntaxError as error:
            return str(error)
    return parts(made) if isinstance(made, CodeType) else parts(made._template_root_code())


def expression(environment: Any, source: str) -> Any:
    """Return the function that an expression becomes, under the name by which `outcome` asks for its code."""
    template = environment.compile_expression(source)._template
    return SimpleNamespace(_template_root_code=lambda: template.root_render_func.__code__)


@given(st.lists(st.tuples(SOURCES, st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=8))
def test_kept_code_is_the_code_that_would_be_compiled(asked: list[tuple[str, bool, bool, bool]]) -> None:
    plain, kept = bits.AnsibleEnvironment, type("Kept", (bits.AnsibleEnvironment,), {})
    folder = ROOT / ".cache" / "tmp" / f"compiled-{os.getpid()}"
    compiled.templates(folder, SimpleNamespace(**{**vars(bits), "AnsibleEnvironment": kept}))
    try:
        for source, whole, escapes, lstrip in [*asked, *asked]:
            environments = [kept(), plain()]
            for environment in environments:
                environment.lstrip_blocks = lstrip
            made = [partial(one.compile if whole else partial(expression, one), source) for one in environments]
            first, second = (outcome(make, escapes) for make in made)
            assert first == second
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_what_is_kept_is_not_compiled_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = bits.AnsibleEnvironment()
    template, value = environment.from_string("{{ a + 1 }}"), environment.compile_expression("a + 2", False)
    assert len([path for path in kept.rglob("*") if path.is_file()]) == 2
    monkeypatch.setattr(bits.AnsibleEnvironment, "_parse", lambda *words: pytest.fail("it was parsed"))
    monkeypatch.setattr(bits.AnsibleEnvironment, "_generate", lambda *words, **more: pytest.fail("it was compiled"))
    other = bits.AnsibleEnvironment()
    again, same = other.from_string("{{ a + 1 }}"), other.compile_expression("a + 2", False)
    assert again.root_render_func.__code__ == template.root_render_func.__code__
    assert same._template.root_render_func.__code__ == value._template.root_render_func.__code__


def test_an_error_is_told_each_time_and_not_kept(kept: Path) -> None:
    for source in ["{{ a", "{% if %}"]:
        for dummy in range(2):
            with pytest.raises(TemplateSyntaxError):
                bits.AnsibleEnvironment().from_string(source)
    for dummy in range(2):
        with pytest.raises(TemplateSyntaxError):
            bits.AnsibleEnvironment().compile_expression("a b")
    assert list(kept.iterdir()) == []


def test_another_program_has_another_folder(tmp_path: Path) -> None:
    program = tmp_path / "plugins" / "filter" / "one.py"
    program.parent.mkdir(parents=True)
    program.write_text("a = 1\n")
    programs, kept = [tmp_path / "plugins"], tmp_path / "kept"
    first = compiled.folder(programs, kept)
    assert compiled.folder(programs, kept) == first
    program.write_text("a = 22\n")
    second = compiled.folder(programs, kept)
    assert second != first
    program.with_name("two.py").touch()
    third = compiled.folder(programs, kept)
    assert third not in (first, second)
    # Nobody has worked with the first for two days.
    os.utime(first, (1, 1))
    program.unlink()
    fourth = compiled.folder(programs, kept)
    assert sorted(kept.iterdir()) == sorted([second, third, fourth])


def test_packed_modules_outlive_the_run_that_made_them(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for content in ("made", "made once"):
        scratch = tmp_path / f"ansible-local-{content}"
        scratch.mkdir()
        compiled.modules(kept, scratch)
        record = scratch / "ansiballz_cache" / "ping"
        if not record.exists():
            record.write_text(content)
        shutil.rmtree(scratch)  # as Ansible does at its end
    assert (kept / "ping").read_text() == "made"


def test_a_full_run_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.SWITCHED_OFF, "1")
    assert not compiled.possible()
    monkeypatch.delenv(compiled.SWITCHED_OFF)
    assert compiled.possible()
