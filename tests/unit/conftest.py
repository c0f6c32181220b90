# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes `ansible_collections.uptier.platform` importable from a plain checkout."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".cache" / "collections"


def _link_checkout() -> None:
    """Give the checkout the path that a collection has when it is installed; scripts/bootstrap does the same."""
    link = COLLECTIONS / "ansible_collections" / "uptier" / "platform"
    if link.is_dir() and link.resolve() == ROOT:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(ROOT, target_is_directory=True)


if AnsibleCollectionConfig.collection_finder is None:  # ansible-test brings its own
    _link_checkout()
    # Ansible's own finder, so that imports resolve here as they do in a run.
    _AnsibleCollectionFinder(paths=[str(COLLECTIONS)])._install()


# An example that takes long on a busy machine is no fault of what it tests.
hypothesis.settings.register_profile("any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the collection."""
    return ROOT


@pytest.fixture(scope="session")
def load_program() -> Callable[[str], ModuleType]:
    """Return what loads a program of a role, anew each time, from its path below the root."""

    def load(path: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def write_program() -> Callable[[Path, str], None]:
    """Return what writes a program that can be run at once.

    Another process writes it: a thread that forks meanwhile would keep the file open for writing, and nobody could run it.
    """

    def write(path: Path, text: str) -> None:
        subprocess.run(["install", "-m", "755", "/dev/stdin", path], input=text, text=True, check=True)

    return write


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> Callable[[Callable[[], None], dict[str, Any]], dict[str, Any]]:
    """Return what runs the `main` of a module in this process with options, `_ansible_check_mode` among them, and returns its answer."""

    def run(main: Callable[[], None], options: dict[str, Any]) -> dict[str, Any]:
        with patch_module_args(options), pytest.raises(SystemExit):
            main()
        return dict(json.loads(capsys.readouterr().out))

    return run
