# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules for test hosts carry their byte-code, and run without it where it does not fit."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible.executor.module_common import modify_module
from ansible.modules import ping
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from harness import bytecode  # noqa: E402

SOURCES = {
    "ansible/__init__.py": "",
    "ansible/said.py": "def said():\n    raise ValueError('said')\n",
    "ansible/broken.py": "def :\n",
}
# What Ansible's wrapper does: it unpacks the archive and imports from it.
WRAPPER = """#!/usr/bin/python3
_ANSIBALLZ_WRAPPER = True
import base64, sys
def main(zip_data):
    with open(sys.argv[1], 'wb') as archive:
        archive.write(base64.b64decode(zip_data))
    sys.path.insert(0, sys.argv[1])
    from ansible.said import said
    print(sys.modules['ansible.said'].__cached__)
    said()
main(
zip_data='%s',
)
"""


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, source in SOURCES.items():
            opened.writestr(name, source)
    return content.getvalue()


class Python:
    """The Python of a host."""

    def __init__(self, other: bool = False) -> None:
        self.asked, self.other = 0, other

    def __call__(self, given: bytes) -> bytes:
        self.asked += 1
        program = bytecode.COMPILER.replace("importlib.util.MAGIC_NUMBER", "b'\\\\1\\\\2\\\\r\\\\n'") if self.other else bytecode.COMPILER
        return subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, check=True).stdout


def run(wrapper: bytes, directory: Path) -> subprocess.CompletedProcess[str]:
    program = directory / "wrapper.py"
    program.write_bytes(wrapper)
    return subprocess.run([sys.executable, program, directory / "payload.zip"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("other", [False, True], ids=["same", "another version"])
def test_a_module_runs_from_its_bytecode_or_from_its_source(tmp_path: Path, other: bool) -> None:
    wrapper = (WRAPPER % base64.b64encode(archive()).decode()).encode()
    python = Python(other)
    enriched = bytecode.enrich(wrapper, tmp_path / "kept", tmp_path / "scratch", python)
    done = run(enriched, tmp_path)
    ran_from_bytecode = bytecode.PLACE in done.stderr
    assert ran_from_bytecode is not other
    assert done.stderr.splitlines()[-1] == "ValueError: said"
    assert bytecode.enrich(wrapper, tmp_path / "kept", tmp_path / "scratch", python) == enriched
    assert python.asked == 1


def test_what_ansible_sends_is_recognised(tmp_path: Path) -> None:
    """Where Ansible changes its wrapper, tests go on and become slow; this one says so."""
    known = {"ansible_python_interpreter": "/usr/bin/python3"}
    path, templar = ping.__file__, Templar(DataLoader(), known)
    built = modify_module(module_name="ansible.builtin.ping", module_path=path, module_args={}, templar=templar, task_vars=known)
    enriched = bytecode.enrich(built.b_module_data, tmp_path / "kept", tmp_path / "scratch", Python())
    found = bytecode.ARCHIVE.search(enriched)
    assert found
    names = zipfile.ZipFile(io.BytesIO(base64.b64decode(found[1]))).namelist()
    assert {"ansible/modules/ping.py", "ansible/modules/ping.pyc", "ansible/module_utils/basic.pyc"} <= set(names)


def test_of_all_who_want_an_archive_at_once_one_makes_it(tmp_path: Path) -> None:
    made = []

    def make() -> bytes:
        made.append(1)
        time.sleep(0.2)
        return b"archive"

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda dummy: bytecode.made_once(tmp_path / "new" / "archive", make), range(4)))
    assert got == [b"archive"] * 4
    assert len(made) == 1


def test_a_file_is_compiled_once(tmp_path: Path) -> None:
    python = Python()
    assert set(bytecode.compiled({"a.py": b"1", "b.py": b"2"}, tmp_path, python)) == {"a.py", "b.py"}
    assert set(bytecode.compiled({"a.py": b"1", "b.py": b"2"}, tmp_path, python)) == {"a.py", "b.py"}
    assert python.asked == 1
    assert set(bytecode.compiled({"a.py": b"1", "b.py": b"3"}, tmp_path, python)) == {"a.py", "b.py"}
    assert python.asked == 2


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\nzip_data='AAAA'\n", b"x = 1\n_ANSIBALLZ_WRAPPER = True\n"])
def test_what_is_no_module_stays(tmp_path: Path, content: bytes) -> None:
    assert bytecode.enrich(content, tmp_path, tmp_path, Python()) == content
