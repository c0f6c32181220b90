# SPDX-License-Identifier: GPL-3.0-or-later
"""Give the modules that Ansible sends to test hosts their byte-code along.

Ansible sends a module and what it imports as source, and Python compiles the half megabyte anew at every run: half of
what a module run costs. Here a host's own Python compiles each file once, and later runs find the result beside the
source in the same archive. A Python of another version ignores it and takes the source, as does every host of a user.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import json
import marshal
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

# What Ansible's wrapper carries: an archive, the only text of that name.
ARCHIVE = re.compile(rb"\bzip_data='([A-Za-z0-9+/=]+)'")
WRAPPER = b"\n_ANSIBALLZ_WRAPPER = True\n"
# Where the sources seem to lie in a traceback: Ansible unpacks them into a directory of another name each time.
PLACE = "/ansible_payload.zip/"
# Run by the host's Python: {name: source} comes in as JSON, {name: byte-code} goes out marshalled. Such byte-code is never
# compared with its source.
COMPILER = """
import importlib.util, json, marshal, sys
compiled = {}
for name, source in json.load(sys.stdin).items():
    try:
        code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        continue
    compiled[name] = importlib.util.MAGIC_NUMBER + b"\\1\\0\\0\\0" + bytes(8) + marshal.dumps(code)
sys.stdout.buffer.write(marshal.dumps(compiled, 2))
"""
Compile = Callable[[bytes], bytes]


def enrich(wrapper: bytes, kept: Path, scratch: Path, compiler: Compile) -> bytes:
    """Return a module's wrapper with byte-code in its archive; anything else as it is.

    `kept` is a directory for the byte-code of files, of one version of Python; `scratch` one for whole archives, which
    lives as long as the run. `compiler` runs COMPILER on the host: it takes its input and returns its output.
    """
    found = ARCHIVE.search(wrapper) if WRAPPER in wrapper[:1000] else None
    if found is None:
        return wrapper
    ready = scratch / f"{hashlib.sha256(found[1]).hexdigest()}-{kept.name}"
    try:
        text = ready.read_bytes()
    except OSError:
        text = made_once(ready, lambda: base64.b64encode(with_bytecode(base64.b64decode(found[1]), kept, compiler)))
    return wrapper[: found.start(1)] + text + wrapper[found.end(1) :]


def made_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return what a file holds; of all workers that want it at once, for as many hosts, one makes it and the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            put(path, make())
    return path.read_bytes()


def with_bytecode(archive: bytes, kept: Path, compiler: Compile) -> bytes:
    """Add byte-code to an archive of sources."""
    content = io.BytesIO(archive)
    with zipfile.ZipFile(content, "a") as opened:
        sources = {name: opened.read(name) for name in opened.namelist() if name.endswith(".py")}
        for name, code in compiled(sources, kept, compiler).items():
            opened.writestr(zipfile.ZipInfo(f"{name}c", opened.getinfo(name).date_time), code)
    return content.getvalue()


def compiled(sources: dict[str, bytes], kept: Path, compiler: Compile) -> dict[str, bytes]:
    """Return byte-code by file, the kept one where there is some."""
    records = {name: kept / hashlib.sha256(name.encode() + b"\0" + source).hexdigest() for name, source in sources.items()}
    missing = {f"{PLACE}{name}": sources[name].decode() for name, record in records.items() if not record.exists()}
    if missing:
        for place, code in marshal.loads(compiler(json.dumps(missing).encode())).items():
            put(records[place.removeprefix(PLACE)], code)
    return {name: record.read_bytes() for name, record in records.items() if record.exists()}


def put(path: Path, content: bytes) -> None:
    """Write a file at once: many workers look for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.replace(path)
