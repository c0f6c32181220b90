# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the images of the test hosts: from Docker Hub's Debian where it answers, else from the machine's package mirror."""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import ROOT, Problem, releases, run, say, stop, succeeds

CODENAMES = {number: carried["codename"] for number, carried in releases().items()}
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-apt,ca-certificates,iproute2,procps"
RECIPE = ROOT / "scripts" / "image"
APT = Path("/etc/apt")


@dataclass(frozen=True)
class Source:
    """One `deb` source of this machine."""

    uri: str
    suite: str


def image_name(release: int) -> str:
    """Return the image of a Debian release."""
    return f"uptier-platform/debian:{release}"


def recipe_hash() -> str:
    """Identify what the image is built by, so that a changed recipe builds it anew."""
    parts = [PACKAGES.encode(), *(path.read_bytes() for path in sorted(RECIPE.iterdir()))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def parse_one_line(text: str) -> Iterator[Source]:
    """Read a `.list` file: deb [options] uri suite component..."""
    for line in text.splitlines():
        words = line.split("#", 1)[0].strip()
        if not words.startswith("deb "):
            continue
        words = words[4:].strip()
        if words.startswith("["):
            words = words.partition("]")[2].strip()
        uri, dummy, rest = words.partition(" ")
        if rest.strip():
            yield Source(uri, rest.split()[0])


def parse_deb822(text: str) -> Iterator[Source]:
    """Read a `.sources` file: stanzas of fields, several URIs and suites in each."""
    for stanza in text.split("\n\n"):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace() and name:
                fields[name] += " " + line.strip()
            elif ":" in line:
                name, dummy, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() == "no" or "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite)


def machine_sources(apt: Path = APT) -> list[Source]:
    """Collect the sources of this machine, in both formats."""
    found: list[Source] = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".list":
            found += parse_one_line(text)
        elif path.suffix == ".sources":
            found += parse_deb822(text)
    return found


def resolve(uri: str) -> str:
    """Follow mirror+file:/list to the first address in that list."""
    if uri.startswith("mirror+file:"):
        for line in Path(uri.removeprefix("mirror+file:")).read_text(encoding="utf-8").splitlines():
            if line.split("#", 1)[0].strip():
                return line.split()[0].rstrip("/")
    return uri.rstrip("/")


def suites_for(codename: str, sources: list[Source]) -> list[str]:
    """Return the `deb` lines from which a release is built, by the mirrors that this machine uses itself."""
    names = set(CODENAMES.values()) | {"stable", "testing", "sid", "unstable"}
    main = next((resolve(s.uri) for s in sources if s.suite in names and "debian" in s.uri or s.suite in CODENAMES.values()), None)
    if main is None:
        raise Problem(
            "Docker Hub does not answer, and this machine's apt sources name no Debian mirror to build test images from.\n"
            f"Do one of: `docker pull {' '.join(f'debian:{release}' for release in CODENAMES)}` by hand; "
            f"give images named {' and '.join(image_name(release) for release in CODENAMES)}; run on Debian."
        )
    security = next((resolve(s.uri) for s in sources if s.suite.endswith("-security")), None)
    if security is None and main.endswith("/debian"):
        security = f"{main}-security"
    lines = [f"deb {main} {codename} main", f"deb {main} {codename}-updates main"]
    if security:
        lines.append(f"deb {security} {codename}-security main")
    return lines


def base_from_hub(release: int) -> str | None:
    """Return Docker Hub's image when it can be had."""
    name = f"debian:{release}"
    return name if succeeds("docker", "pull", "-q", name, timeout=300) else None


def base_from_mirror(release: int) -> str:
    """Make a minimal root file system with mmdebstrap and import it, unless that was done before."""
    name = f"uptier-platform/debian-root:{release}"
    if succeeds("docker", "image", "inspect", name):
        return name
    lines = suites_for(CODENAMES[release], machine_sources())
    if not succeeds("mmdebstrap", "--version"):
        if os.geteuid() != 0:
            raise Problem("Docker Hub does not answer and mmdebstrap is missing. As root: apt-get install mmdebstrap")
        run("apt-get", "update", "-qq")
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "mmdebstrap")
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory, "root.tar")
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", CODENAMES[release], archive, *lines)
        run("docker", "import", archive, name)
    return name


def remove() -> None:
    """Remove every image that this script made."""
    for release in CODENAMES:
        for name in (image_name(release), f"uptier-platform/debian-root:{release}"):
            run("docker", "image", "rm", name, check=False)


def build(release: int, *, force: bool = False) -> None:
    """Build one image unless the one that is there was built by the same recipe."""
    name, recipe = image_name(release), recipe_hash()
    label = '{{index .Config.Labels "uptier.recipe"}}'
    if not force and run("docker", "image", "inspect", "-f", label, name, check=False).stdout.strip() == recipe:
        return
    base = base_from_hub(release)
    say(f"images: building {name} from {base or 'the Debian mirror of this machine'}")
    base = base or base_from_mirror(release)
    run("docker", "build", "-q", "--build-arg", f"BASE={base}", "--label", f"uptier.recipe={recipe}", "-t", name, RECIPE)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "releases", nargs="*", type=int, default=list(CODENAMES), help="numbers of Debian releases (default: all that hosts may run)"
    )
    parser.add_argument("--force", action="store_true", help="build also when nothing changed")
    parser.add_argument("--remove", action="store_true", help="remove the images instead")
    arguments = parser.parse_args()
    try:
        if arguments.remove:
            remove()
            return
        for release in arguments.releases:
            build(release, force=arguments.force)
    except Problem as problem:
        stop("images", problem)


if __name__ == "__main__":
    main()
