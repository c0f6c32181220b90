# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of a job is known by is the same on every host."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application.job import JobError, coming
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

# As systemd 252 and 257 show them.
IN_UTC = "  Original form: *-*-* 03:00:00\nNormalized form: *-*-* 03:00:00\n    Next elapse: Sat 2026-11-28 03:00:00 UTC\n       From now: 29min left\n"
IN_BERLIN = """  Original form: *-*-* 03:00:00
Normalized form: *-*-* 03:00:00
    Next elapse: Sun 2026-11-29 03:00:00 CET
       (in UTC): Sun 2026-11-29 02:00:00 UTC
       From now: 23h left
"""


@pytest.mark.parametrize(
    ("shown", "run"),
    [
        (IN_UTC, "2026-11-28T03:00:00Z daily"),
        (IN_BERLIN, "2026-11-29T02:00:00Z daily"),
        ("    Next elapse: never\n", "never daily"),
    ],
)
def test_a_run_is_known_by_the_next_time(shown: str, run: str) -> None:
    assert coming(shown, "daily") == run


@pytest.mark.parametrize("zone", ["UTC", "Africa/Abidjan", "Etc/GMT", "Europe/London", "Europe/Berlin", "Asia/Kolkata"])
def test_a_time_is_found_in_every_zone(zone: str) -> None:
    """A zone that never had another offset than none is shown as GMT, without the line in UTC."""
    command = ["systemd-analyze", "calendar", "--iterations=1", "2099-07-01 12:00:00 UTC"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "TZ": zone, "LC_ALL": "C"}).stdout
    assert coming(shown, "x") == "2099-07-01T12:00:00Z x"


def test_a_schedule_that_systemd_does_not_read_is_quoted() -> None:
    with pytest.raises(JobError, match="names no time: .Failed to parse"):
        coming("Failed to parse calendar specification 'x': Invalid argument\n", "x")


@given(st.integers(2, 10**6), st.integers(0, 10**4), st.lists(st.floats(0, 0.9), min_size=2, max_size=5))
def test_hosts_agree_however_late_they_are(period: int, number: int, hosts: list[float]) -> None:
    """A timer fires by its host's own clock, up to nine tenths of a period late; systemd then shows what comes next by that clock."""
    epoch, step = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=period)

    def run(number: int, late: float) -> str:
        clock = epoch + step * (number + late)
        return coming(f"    Next elapse: {epoch + ((clock - epoch) // step + 1) * step:%a %Y-%m-%d %H:%M:%S} UTC\n", "x")

    assert len({run(number, late) for late in hosts}) == 1
    assert run(number, hosts[0]) != run(number + 1, hosts[0])


def test_a_providers_cache_is_verified_as_the_platform_does(load_program: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """Its authority may have no extensions, which Debian 13's Python asks for by default, and its server nothing newer than TLS 1.2."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider")])
    since = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    authority = made.not_valid_before(since).not_valid_after(since + timedelta(days=1)).sign(key, hashes.SHA256())
    path = tmp_path / "ca.crt"
    path.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    context = load_program("roles/app/files/run_once.py").context
    own, provider = {"REDIS_TLS_CA": str(path)}, {"REDIS_TLS_CA": str(path), "REDIS_TLS_MIN_VERSION": "TLSv1.2"}
    assert context({}) is None
    assert context(own).minimum_version == ssl.TLSVersion.TLSv1_3
    found = context(provider)
    assert found.minimum_version == ssl.TLSVersion.TLSv1_2
    assert not found.verify_flags & ssl.VERIFY_X509_STRICT
    assert (found.verify_mode, found.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert found.cert_store_stats()["x509"] == 1
