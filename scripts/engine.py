# SPDX-License-Identifier: GPL-3.0-or-later
"""Make sure that a Docker engine answers; on Debian as root install and start one where there is none."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import time
from pathlib import Path

from support import CACHE, Problem, run, say, stop, succeeds

PID_FILE = CACHE / "dockerd.pid"
LOG_FILE = CACHE / "dockerd.log"
START_SECONDS = 60


def answers() -> bool:
    """Tell whether this user can talk to a running engine."""
    return succeeds("docker", "info", timeout=60)


def has_systemd() -> bool:
    """Tell whether systemd runs this machine."""
    return Path("/run/systemd/system").is_dir()


def is_debian_root() -> bool:
    """Tell whether we may install Debian's package."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists()


def advice() -> str:
    """Say what the user has to do here; nothing was changed."""
    seen = run("docker", "info", check=False).stderr.strip() if succeeds("docker", "--version") else "there is no `docker` command"
    if "permission denied" in seen.lower():
        todo = "Add yourself to the group docker (`sudo usermod -aG docker $USER`, then log in again), or run this as root."
    elif "no `docker`" in seen:
        todo = (
            "Install Docker Engine 20.10 or newer (Debian: `sudo apt-get install docker.io`), "
            "or run this as root on Debian, which installs it."
        )
    else:
        todo = "Start it (`sudo systemctl start docker`), or run this as root on Debian, which starts it."
    return f"no Docker engine answers: {seen.splitlines()[-1]}\n{todo}\nNothing was changed."


def install() -> None:
    """Install Debian's engine without what it recommends."""
    say("engine: installing Debian's docker.io")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run("apt-get", "update", "-qq")
    # Debian 13 has the `docker` command in a package of its own, which docker.io only recommends.
    client = ["docker-cli"] if succeeds("apt-cache", "show", "docker-cli") else []
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "docker.io", "iptables", *client)


def start() -> None:
    """Start the engine: by systemd, or by ourselves where there is no init system."""
    if has_systemd():
        run("systemctl", "start", "docker")
    else:
        say(f"engine: starting dockerd (log: {LOG_FILE})")
        CACHE.mkdir(exist_ok=True)
        with LOG_FILE.open("ab") as log:
            daemon = subprocess.Popen(["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        PID_FILE.write_text(f"{daemon.pid}\n", encoding="ascii")
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if time.monotonic() > deadline:
            raise Problem(f"dockerd does not answer {START_SECONDS} s after its start. See {LOG_FILE} or `journalctl -u docker`.")
        time.sleep(0.5)


def up() -> None:
    """Have an engine that answers, or say why not."""
    if answers():
        return
    if not is_debian_root():
        raise Problem(advice())
    if not succeeds("dockerd", "--version"):
        install()
    if not answers():  # the package's own service may have started it
        start()


def down() -> None:
    """Stop the engine if this script started it, and only then."""
    try:
        pid = int(PID_FILE.read_text(encoding="ascii"))
        name = Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        say("engine: none that this project started is running")
        PID_FILE.unlink(missing_ok=True)
        return
    if name == "dockerd":
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + START_SECONDS
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        say("engine: stopped")
    PID_FILE.unlink(missing_ok=True)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["up", "down"])
    try:
        {"up": up, "down": down}[parser.parse_args().action]()
    except Problem as problem:
        stop("engine", problem)


if __name__ == "__main__":
    main()
