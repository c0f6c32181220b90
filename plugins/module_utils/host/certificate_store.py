# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates of public names on a gateway: <directory>/<site>/{fullchain,privkey}.pem.

<site> is a link to one of the site's pairs in <directory>/.pairs/, so that a certificate and its key always change
together, and the pair before can be put back. The role acme also installs this file on the host, for its
renewals.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import time

from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file, replace_link

CHAIN = "fullchain.pem"
KEY = "privkey.pem"
SOURCE = "source"
# The marker that config_files uses for the component acme_pairs: pairs that nginx has not loaded yet.
MARKER = "/run/uptier/pending/acme_pairs.json"


def read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError):
        return None


def look(directory: str, site: str) -> dict:
    """Describe a site's pair: its certificates as text, who made it, whether the key fits. The key is not returned."""
    folder = os.path.join(directory, site)
    chain = read(os.path.join(folder, CHAIN))
    return {
        "chain": chain,
        "source": (read(os.path.join(folder, SOURCE)) or "").strip(),
        "fits": chain is not None and fits(folder),
    }


def fits(folder: str) -> bool:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(folder, CHAIN), os.path.join(folder, KEY))
    except (OSError, ssl.SSLError):
        return False
    return True


def install(directory: str, site: str, chain: str, key: str, source: str) -> str | None:
    """Put a pair in place in one step; return the folder of the pair before, or None. Refuse a key that does not fit."""
    pairs = os.path.join(directory, ".pairs")
    os.makedirs(pairs, mode=0o755, exist_ok=True)
    folder = os.path.join(pairs, f"{site}.{time.time_ns()}")
    os.mkdir(folder, 0o755)
    try:
        for name, text, mode in ((KEY, key, 0o600), (CHAIN, chain, 0o644), (SOURCE, source + "\n", 0o644)):
            handle = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
        if not fits(folder):
            raise ValueError(f"{site}: the private key does not belong to the certificate")
    except BaseException:
        shutil.rmtree(folder)
        raise
    before = current(directory, site)
    mark(site)
    point(directory, site, folder)
    forget(directory, site, {folder, before})
    return before


def current(directory: str, site: str) -> str | None:
    """Return the folder that a site's link points to, or None."""
    path = os.path.join(directory, site)
    return os.path.realpath(path) if os.path.islink(path) and os.path.isdir(path) else None


def point(directory: str, site: str, folder: str) -> None:
    """Let a site have the pair in a folder."""
    if not fits(folder):
        raise ValueError(f"{site}: there is no usable pair in {folder}")
    path = os.path.join(directory, site)
    if os.path.isdir(path) and not os.path.islink(path):
        # A directory that somebody else made: keep it as the pair before.
        os.rename(path, os.path.join(directory, ".pairs", f"{site}.0"))
    replace_link(path, os.path.relpath(folder, directory))


def forget(directory: str, site: str, kept: set[str | None]) -> None:
    """Remove all pairs of a site but those given: the one in use and the one before it, whatever their age.

    A directory that somebody else made (number 0) stays.
    """
    pairs = os.path.realpath(os.path.join(directory, ".pairs"))
    for name in os.listdir(pairs):
        owner, dummy, number = name.rpartition(".")
        if (
            owner == site
            and number.strip("0").isdigit()
            and os.path.join(pairs, name) not in {os.path.realpath(folder) for folder in kept if folder}
        ):
            shutil.rmtree(os.path.join(pairs, name))


def mark(site: str) -> None:
    """Remember that nginx has not loaded this pair yet. A run cut short here reloads next time."""
    waiting = pending()
    os.makedirs(os.path.dirname(MARKER), mode=0o755, exist_ok=True)
    replace_file(MARKER, json.dumps(sorted({*waiting, site})), 0o644)


def pending() -> list[str]:
    try:
        return list(json.loads(read(MARKER) or "[]"))
    except ValueError:
        return []


def clear() -> None:
    if os.path.exists(MARKER):
        os.unlink(MARKER)
