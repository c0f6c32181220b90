# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that need the collection as a tree or a package of its own: `ansible-test sanity` and galaxy-importer."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from support import CACHE, ROOT, Problem, run, stop

BIN = Path(sys.executable).parent
# Sanity looks at what users install. Tests and documentation are linted with the tree.
NOT_INSTALLED = ("molecule/", "tests/unit/", "tests/harness/", "tests/probes/", "tests/sample_app/", "docs/")
# What ruff says of the same files and many more, in a second; pylint takes longer than all other tests together.
SAID_BY_RUFF = () if os.environ.get("UPTIER_FULL") else ("pep8", "pylint")
GET_PIP = """\
# Does what get-pip.py does, from the package index that pip is configured for.
import subprocess
import sys

wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.run([{pip!r}, "--python", sys.executable, "install", *wanted], check=True)
"""


def copy_tree(parent: Path, without: tuple[str, ...] = ()) -> Path:
    """Copy what git knows, or would know, to a place where the tools recognise a collection, `without` some folders."""
    target = parent / "ansible_collections" / "uptier" / "platform"
    shutil.rmtree(parent, ignore_errors=True)
    listing = run("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z").stdout
    for name in filter(None, listing.split("\0")):
        source = ROOT / name
        if source.is_file() and not name.startswith(without):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    # A repository of its own: ansible-test asks git for the files, and ours ignores the place where the copy lies.
    run("git", "init", "--quiet", target)
    return target


def sanity(python: str) -> int:
    """Run ansible-test sanity; each of its tests makes an environment of its own.

    ansible-test fetches get-pip.py from its makers' server, the only thing that does not come from the package index.
    It takes a cached one from the home directory, so it gets a home in which there is one.
    """
    try:
        from ansible_test._internal.python_requirements import get_venv_packages

        pip = get_venv_packages(SimpleNamespace(version=python))["pip"]  # type: ignore[arg-type]
    except (ImportError, KeyError) as error:
        raise Problem(f"this version of ansible-test makes its environments in another way ({error!r}).") from None
    home = CACHE / f"sanity_home_{python}"
    scripts = home / ".ansible" / "test" / "cache"
    scripts.mkdir(parents=True, exist_ok=True)
    (scripts / f"get_pip_{pip.replace('.', '_')}.py").write_text(GET_PIP.format(pip=str(BIN / "pip")), encoding="utf-8")
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
        "LC_ALL": "C.UTF-8",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    tree = copy_tree(CACHE / f"sanity_{python}", without=NOT_INSTALLED)
    left_out = [word for test in SAID_BY_RUFF for word in ("--skip-test", test)]
    done = subprocess.run(
        [BIN / "ansible-test", "sanity", "--python", python, "--color", "no", *left_out],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    for program in re.findall(r'Required program "(.+?)" not found', done.stdout):
        print(f"not verified here: ansible-test sanity's {program} test (the program is not installed)")
    if "All targets skipped" in done.stdout:
        raise Problem("ansible-test looked at no file; is the copy of the collection complete?")
    return abs(done.returncode)


def galaxy() -> int:
    """Build the package that users install, and run the checks of the Galaxy server on it."""
    tree = copy_tree(CACHE / "package")
    run(BIN / "ansible-galaxy", "collection", "build", "--force", "--output-path", CACHE / "package", tree)
    package = next((CACHE / "package").glob("uptier-platform-*.tar.gz"))
    environment = {
        **os.environ,
        "GALAXY_IMPORTER_CHECK_REQUIRED_TAGS": "true",
        "GALAXY_IMPORTER_RUN_FLAKE8": "false",  # ruff does
        # The stage before it does the same on the same files, with more rules.
        "GALAXY_IMPORTER_RUN_ANSIBLE_LINT": str(bool(os.environ.get("UPTIER_FULL"))).lower(),
        "GALAXY_IMPORTER_ANSIBLE_LOCAL_TMP": str(CACHE / "tmp"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "galaxy_importer.main", "--output-path", CACHE / "package", package]
    done = subprocess.run(
        command, cwd=CACHE / "package", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(done.stdout)
    # The importer goes on after most of what it finds; for us a warning is a failure.
    found = [line for line in done.stdout.splitlines() if line.startswith(("ERROR", "WARNING"))]
    return done.returncode or int(bool(found))


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=["sanity", "galaxy"])
    arguments = parser.parse_args()
    try:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SystemExit(galaxy() if arguments.check == "galaxy" else sanity(version))
    except Problem as problem:
        stop("check_collection", problem)


if __name__ == "__main__":
    main()
