# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a user reads of PostgreSQL's settings: the head of the file, and the refusal when they do not fit."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError

Render = Callable[..., dict[str, str]]
ROOT = Path(__file__).resolve().parents[3]
VALUES = {
    "platform_address": "192.0.2.1",
    "platform_tier": "growth",
    "platform_memory_mb": 16384,
    "platform_cpus": 8,
    "postgresql_version": "15",
    "postgresql_client_members": [
        {"name": f"app{number}", "address": f"192.0.2.1{number}", "fqdn": f"app{number}"} for number in (1, 2, 3)
    ],
    **{
        f"vault_{name}_password": "0123456789ab"
        for name in ("postgresql_superuser", "postgresql_replication", "postgresql_rewind", "postgresql_monitor", "patroni_api")
    },
}


@pytest.fixture(scope="module")
def render(render_role: Render) -> Render:
    """Return what renders the settings with some variables more."""
    return lambda **more: render_role("postgresql", ["patroni.yml.j2", "huge-pages.conf.j2"], {**VALUES, **more})


def test_settings_begin_with_a_summary(render: Render) -> None:
    files = render()
    text = files["patroni.yml"]
    head = text.partition("\n\n")[0].splitlines()
    assert "# PostgreSQL 15, member localhost of main, computed for 11468 MiB, 8 processors, 200 connections, oltp, ssd:" in head, (
        "\n".join(head)
    )
    assert "#   shared_buffers                     2867MB" in head
    assert "# Connections: 200 = 120 for pools (40 on each of 3 hosts) + 20 reserved + 60 free." in head
    assert "# Huge pages: reserved by postgresql-huge-pages.service." in head
    settings = yaml.safe_load(text)["postgresql"]["parameters"]
    assert settings["huge_pages"] == "try"
    asked = files["huge-pages.conf"].splitlines()
    assert "max_connections = '200'" in asked
    assert "shared_buffers = '2867MB'" in asked
    assert not [line for line in asked if line.startswith("ssl")]


@pytest.fixture(scope="module")
def settings(render: Render) -> dict[str, Any]:
    """Patroni's settings for PostgreSQL where the repository is on another host."""
    return yaml.safe_load(render(postgresql_archive_remote=True)["patroni.yml"])["postgresql"]


def test_patroni_announces_a_promotion_to_the_program_that_fetches_wal(
    settings: dict[str, Any], load_program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell, option, announce = shlex.split(settings["pre_promote"])
    assert [shell, option] == ["/bin/sh", "-c"]
    command = settings["recovery_conf"]["restore_command"].replace("%f", "00000002.history").replace("%p", "pg_wal/RECOVERYHISTORY")
    python, isolated, bare, installed, *words = shlex.split(command)
    assert [python, isolated, bare] == ["/usr/bin/python3", "-I", "-S"]
    assert installed == "/usr/local/lib/uptier/postgresql-restore-wal.py"
    program = load_program("roles/postgresql/files/restore_wal.py")
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(program, "fetch", lambda given, *others: not seen.append(given))
    monkeypatch.setattr(program.Memory, "save", lambda memory: None)
    assert program.main(words) == 0
    assert seen[0]["promotion"] in announce.split()
    assert {"name": "00000002.history", "target": "pg_wal/RECOVERYHISTORY"}.items() <= seen[0].items()
    assert (seen[0]["stanza"], seen[0]["data"]) == ("main", "/var/lib/postgresql/15/main")
    # The exporter's default is that file.
    exporters = yaml.safe_load((ROOT / "roles/exporters/defaults/main.yml").read_text(encoding="utf-8"))
    assert seen[0]["memory"] == exporters["exporters_restore_memory"]


@pytest.mark.parametrize("writable", [True, False])
def test_the_announcement_never_forbids_the_promotion(settings: dict[str, Any], tmp_path: Path, writable: bool) -> None:
    file = tmp_path / "here" / "promotion" if writable else Path("/proc/uptier/promotion")
    if writable:
        file.parent.mkdir()
    words = shlex.split(settings["pre_promote"].replace("/run/postgresql/uptier-promotion", str(file)))
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    assert file.exists() == writable


def test_settings_are_checked_without_asking_members_of_etcd(
    rendering: Any, variable_files: Callable[..., list[Path]], tmp_path: Path
) -> None:
    """Patroni's check refuses a file that names a member which does not answer: one that is down, or that a run in check mode has not made."""
    command = rendering(VALUES).show("{{ __postgresql_validate }}", variable_files("postgresql"))
    (tmp_path / "patroni").mkdir()
    (tmp_path / "patroni" / "__main__.py").write_text(
        "import socket, sys\ndef main():\n    print(sys.argv[1:], socket.socket().connect_ex(('127.0.0.1', 1)))\n"
    )
    words = shlex.split(f"{command} patroni.yml")
    assert words[0] == "/opt/uptier/patroni/bin/python"
    done = subprocess.run([sys.executable, *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "['--validate-config', '--ignore-listen-port', 'patroni.yml'] 0\n"


def test_pools_that_do_not_fit_are_refused_with_the_numbers(render: Render) -> None:
    with pytest.raises(AnsibleError) as refused:
        render(postgresql_max_connections=100)
    said = " ".join(str(refused.value).split())
    assert "The pools may take 120 connections and 20 are reserved, 140 together, but postgresql_max_connections is 100." in said
    assert "Raise postgresql_max_connections to 140 or lower pgbouncer_connection_budget to 80." in said


def test_a_small_host_reserves_no_huge_pages(render: Render) -> None:
    assert "# Huge pages: used where there are some, not reserved." in render(platform_memory_mb=4096)["patroni.yml"]
