# SPDX-License-Identifier: GPL-3.0-or-later
"""What dpkg's answer means, asked of the real dpkg-query where there is one."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils.packages import Host, answer, missing, question, split

OUTPUT = """\
libc6:amd64 installed 2.41-12\r
nginx:amd64 installed 1.26.3-3+deb13u1\r
redis:all config-files 8.0.2\r
broken:amd64 half-configured 1.0\r
lists\r
"""
HOST = Host({"nginx": "1.26.3-3+deb13u1", "nginx:amd64": "1.26.3-3+deb13u1"}, True)


def test_answer_counts_only_what_is_wholly_installed():
    host = answer(OUTPUT)
    assert host.has_lists
    assert set(host.installed) == {"libc6", "libc6:amd64", "nginx", "nginx:amd64"}
    assert not answer("nginx:amd64 installed 1\n").has_lists


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["nginx"], []),
        (["nginx:amd64"], []),
        (["nginx:arm64"], ["nginx:arm64"]),
        (["redis", "nginx"], ["redis"]),
        (["nginx=1.26.3-3+deb13u1"], []),
        (["nginx=1.26.*"], []),
        (["nginx=1.27.*"], ["nginx=1.27.*"]),
        ([], []),
    ],
)
def test_missing(wanted, expected):
    assert missing(wanted, HOST) == expected


@pytest.mark.parametrize("wrong", ["", "Nginx", "nginx=", "-y", "nginx; reboot", "$(id)", "../x"])
def test_split_refuses_what_is_no_package(wrong):
    with pytest.raises(ValueError, match="is not a package: expected a Debian package name"):
        split(wrong)


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="not a Debian machine")
def test_question_is_answered_by_dpkg():
    done = subprocess.run(["sh", "-c", question(["dpkg", "no-such-package-here"])], capture_output=True, text=True, check=True)
    assert "dpkg" in answer(done.stdout).installed
    assert missing(["dpkg", "no-such-package-here"], answer(done.stdout)) == ["no-such-package-here"]
