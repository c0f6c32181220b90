# SPDX-License-Identifier: GPL-3.0-or-later
"""Patroni and what it needs, pinned with hashes, and as a directory of wheels for hosts without a package index.

    scripts/build_patroni_wheels.py            fill build/wheels/patroni from the pinned requirements (verified by hash)
    scripts/build_patroni_wheels.py --pin 4.1.5   renew roles/postgresql/files/patroni-requirements.txt first

The wheels serve the Python of each supported Debian release on amd64 and arm64 and need no compiler on the host:
what is published as source only is pure Python and is built here once. psycopg uses the libpq5 of Debian, which
Debian keeps patched; its binary wheel would bring a copy of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support import ROOT, releases

PINNED = ROOT / "roles" / "postgresql" / "files" / "patroni-requirements.txt"
WHEELS = ROOT / "build" / "wheels" / "patroni"
WANTED = ("patroni[etcd3]=={version}", "psycopg")
PYTHONS = [carried["python"] for carried in releases().values()]
PLATFORMS = {
    machine: [f"manylinux_2_28_{machine}", f"manylinux_2_17_{machine}", f"manylinux2014_{machine}"] for machine in ("x86_64", "aarch64")
}
HEAD = f"""\
# Patroni for roles/postgresql, for Python {" and ".join(PYTHONS)} on amd64 and arm64. psycopg loads the libpq5 of Debian.
# Renew with: scripts/build_patroni_wheels.py --pin VERSION
"""


def pip(*arguments: str) -> None:
    """Run pip; its own words explain a failure."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr.strip() or done.stdout.strip()}")


def project(path: Path) -> tuple[str, str]:
    """Return normalised name and version of a wheel or source archive."""
    stem = path.name.removesuffix(".tar.gz")
    name, version = stem.split("-")[:2] if path.suffix == ".whl" else stem.rsplit("-", 1)
    return normalised(name), version


def normalised(name: str) -> str:
    """Return the name of a project as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(files: list[Path]) -> str:
    """Return a requirements file that allows exactly these files."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in files:
        found.setdefault(project(path), set()).add(hashlib.sha256(path.read_bytes()).hexdigest())
    lines = []
    for (name, version), hashes in sorted(found.items()):
        lines.append(f"{name}=={version} \\")
        lines.append(" \\\n".join(f"    --hash=sha256:{value}" for value in sorted(hashes)))
    return "\n".join(lines) + "\n"


def download(versions: list[tuple[str, str]], folder: Path, pinned: Path | None = None) -> None:
    """Fetch the wheels of every target, and the source of what has none; with pinned requirements, that is built at once.

    pip is started for a target, not for a project, and asked once for what fits all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check = ["--no-deps", *(["--require-hashes"] if pinned else [])]
    done: set[str] = set()
    source_only: list[str] = []
    for python in PYTHONS:
        for tags in PLATFORMS.values():
            target = [*(f"--platform={tag}" for tag in tags), f"--python-version={python}", "--only-binary=:all:", f"--dest={folder}"]
            while {name for name, dummy in versions} - {*done, *source_only}:
                lacking = fetch(*check, *target, *specification(versions, folder, pinned, without={*done, *source_only}))
                if lacking is None:
                    break
                source_only.append(lacking)
            done = {project(path)[0] for path in folder.glob("*-none-any.whl")}
    if source_only:
        command = ["wheel", "--use-pep517", f"--wheel-dir={folder}"] if pinned else ["download", f"--dest={folder}"]
        others = {name for name, dummy in versions} - set(source_only)
        pip(*command, *check, f"--no-binary={','.join(source_only)}", *specification(versions, folder, pinned, without=others))


def fetch(*arguments: str) -> str | None:
    """Run `pip download`; return the first project that has no wheel for the target, or None where all were fetched."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    lacking = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+)==", done.stderr)
    if lacking is None:
        sys.exit(f"{' '.join(command)}\n{done.stderr.strip() or done.stdout.strip()}")
    return normalised(lacking[1])


def specification(versions: list[tuple[str, str]], folder: Path, pinned: Path | None, without: set[str]) -> list[str]:
    """Return how pip is told which projects: by name and version, or by a file with their entries in the pinned one."""
    names = [(name, version) for name, version in versions if name not in without]
    if pinned is None:
        return [f"{name}=={version}" for name, version in names]
    entries = re.split(r"\n(?=[a-z])", pinned.read_text(encoding="utf-8"))
    text = "\n".join(entry for entry in entries if entry.partition("==")[0] in {name for name, dummy in names})
    path = folder.parent / f"{folder.name}.txt"
    path.write_text(f"{text}\n", encoding="utf-8")
    return ["--requirement", str(path)]


def resolve(version: str) -> list[tuple[str, str]]:
    """Return every project that Patroni needs on the oldest Python, with its version."""
    with tempfile.TemporaryDirectory() as scratch:
        wanted = [item.format(version=version) for item in WANTED]
        pip("wheel", "--use-pep517", "--wheel-dir", scratch, *wanted)
        return sorted(project(path) for path in Path(scratch).glob("*.whl"))


def pin(version: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "files"
        download(resolve(version), folder)
        PINNED.write_text(HEAD + requirements(sorted(folder.iterdir())), encoding="utf-8")
    print(f"pinned: {PINNED.relative_to(ROOT)}")


def build() -> None:
    versions = re.findall(r"^([a-z0-9-]+)==(\S+)", PINNED.read_text(encoding="utf-8"), re.MULTILINE)
    stamp = WHEELS / "pinned.sha256"
    digest = hashlib.sha256(PINNED.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8").strip() == digest:
        print(f"up to date: {WHEELS.relative_to(ROOT)}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "files"
        download(versions, folder, PINNED)
        ready = Path(scratch) / "wheels"
        ready.mkdir()
        for path in sorted(folder.glob("*.whl")):
            shutil.copy(path, ready)
        (ready / "requirements.txt").write_text(requirements(sorted(ready.glob("*.whl"))), encoding="utf-8")
        (ready / stamp.name).write_text(digest + "\n", encoding="utf-8")
        shutil.rmtree(WHEELS, ignore_errors=True)
        WHEELS.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(ready, WHEELS)
    print(f"built: {WHEELS.relative_to(ROOT)} ({len(list(WHEELS.glob('*.whl')))} wheels)")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the wheels of Patroni for hosts without a package index.")
    parser.add_argument("--pin", metavar="VERSION", help="renew the pinned requirements for this version of Patroni first")
    arguments = parser.parse_args()
    if arguments.pin:
        pin(arguments.pin)
    build()


if __name__ == "__main__":
    main()
