# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret is readable by those who should not read it."""

from __future__ import annotations

import shlex

from harness.platform import Platform


def test_no_secret_in_a_file_that_others_can_read(platform: Platform) -> None:
    pattern = "\n".join(platform.secrets())
    for host in platform.hosts:
        done = platform.run(
            host,
            f"printf %s {shlex.quote(pattern)} > /run/patterns; "
            "find /etc /opt /var/lib /var/log /home /root /tmp /run -xdev -type f -perm -o=r -size -2M "
            "! -path /run/patterns ! -path '*/node_modules/*' -print0 2>/dev/null | xargs -0 -r grep -l -F -f /run/patterns --; rm -f /run/patterns",
            check=False,
        )
        found = [
            path
            for path in done.stdout.split()
            if platform.run(host, f"runuser -u nobody -- test -r {shlex.quote(path)}", check=False).returncode == 0
        ]
        assert found == [], host


def test_no_secret_in_a_process_list(platform: Platform) -> None:
    known = platform.secrets()
    for host in platform.hosts:
        text = platform.output(host, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
        assert [len(secret) for secret in known if secret in text] == [], host


def test_private_keys_are_private(platform: Platform) -> None:
    for host in platform.hosts:
        loose = platform.output(host, "find /etc/uptier -name '*.key' -perm /o=rwx -o -name 'privkey.pem' -perm /o=rwx")
        assert loose == "", host
