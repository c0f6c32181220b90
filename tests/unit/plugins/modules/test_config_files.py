# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module against a real file system, as it runs on a host: a process of its own, arguments on its input."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host import config_files_apply
from ansible_collections.uptier.platform.plugins.module_utils.host.config_files import BundleError, Wanted, plan
from ansible_collections.uptier.platform.plugins.module_utils.host.config_files_apply import Bundle, Host, look, stale
from ansible_collections.uptier.platform.plugins.modules import config_files as module

ME = pwd.getpwuid(os.geteuid()).pw_name
MY_GROUP = grp.getgrgid(os.getegid()).gr_name


class Exit(Exception):
    """What the module would have printed."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the module with the given arguments and returns its result."""
    monkeypatch.setattr(Bundle, "marker", property(lambda self: str(tmp_path / "run" / f"{self.name}.json")))
    monkeypatch.setattr(Bundle, "record", property(lambda self: str(tmp_path / "lib" / f"{self.name}.json")))
    monkeypatch.setattr(config_files_apply, "UNITS", f"{tmp_path}/units/")
    monkeypatch.setattr(config_files_apply, "SYSTEMD", str(tmp_path))

    class FakeModule:
        """AnsibleModule's part in this: arguments with their defaults, commands, and the way out."""

        arguments: dict[str, Any] = {}
        check_mode = False
        tmpdir = str(tmp_path)
        commands: list[list[str]] = []

        def __init__(self, **_: Any) -> None:
            self.params = {key: self.arguments.get(key, spec.get("default")) for key, spec in module.ARGUMENTS.items()}

        def get_bin_path(self, name: str) -> str | None:
            return "/bin/systemctl" if name == "systemctl" else shutil.which(name)

        def run_command(self, argv: list[str]) -> tuple[int, str, str]:
            self.commands.append(argv)
            if argv[0] == "systemctl":
                return 0, "", ""
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout, done.stderr

        def exit_json(self, **result: Any) -> None:
            raise Exit(result)

        def fail_json(self, **result: Any) -> None:
            raise Exit({"failed": True, **result})

    monkeypatch.setattr(module, "AnsibleModule", FakeModule)

    def call(*files: dict[str, Any], check: bool = False, **arguments: Any) -> dict[str, Any]:
        entries, contents = [], {}
        for entry in files:
            item = {key: spec.get("default") for key, spec in module.FILE_OPTIONS.items()}
            item.update({"owner": ME, "group": MY_GROUP, **entry})
            content = item.pop("content", None)
            if content is not None:
                contents[item["dest"]] = content
            entries.append(item)
        FakeModule.arguments = {"name": "thing", "files": entries, **arguments}
        FakeModule.arguments["payload"] = base64.b64encode(zlib.compress(json.dumps(contents).encode())).decode()
        FakeModule.check_mode = check
        FakeModule.commands = []
        with pytest.raises(Exit) as left:
            module.main()
        return {"commands": FakeModule.commands, **left.value.args[0]}

    return call


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "thing.conf"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def tree(folder: Path) -> dict[str, tuple[str, int, str]]:
    """Describe everything below a directory."""
    shown = {}
    for path in sorted(folder.rglob("*")):
        seen = look(str(path))
        shown[str(path.relative_to(folder))] = (seen.kind, seen.mode or 0, seen.content or seen.target or "")
    return shown


def test_a_file_is_made_with_its_parents_and_then_left_alone(run, conf, tmp_path) -> None:
    wanted = {"dest": str(conf), "content": "port 1\n", "mode": "0640"}
    first = run(wanted)
    assert first["changed"] is True
    assert first["changed_files"] == first["pending"] == [str(conf)]
    assert conf.read_text() == "port 1\n"
    assert (mode_of(conf), mode_of(conf.parent)) == (0o640, 0o755)
    run(state="applied")
    inode = conf.stat().st_ino
    second = run(wanted)
    assert (second["changed"], second["changed_files"], second["pending"]) == (False, [], [])
    assert conf.stat().st_ino == inode


def test_parents_are_readable_whatever_the_umask(run, conf) -> None:
    before = os.umask(0o077)
    try:
        run({"dest": str(conf), "content": ""}, {"dest": str(conf.parent / "a" / "b"), "state": "directory"})
    finally:
        os.umask(before)
    assert mode_of(conf) == 0o644
    assert mode_of(conf.parent) == mode_of(conf.parent / "a") == mode_of(conf.parent / "a" / "b") == 0o755


def test_check_mode_plans_the_same_and_writes_nothing(run, conf, tmp_path) -> None:
    wanted = ({"dest": str(conf), "content": "x\n"}, {"dest": str(conf.parent / "d"), "state": "directory"})
    planned = run(*wanted, check=True)
    assert not conf.parent.exists()
    assert not (tmp_path / "run").exists()
    done = run(*wanted)
    assert {key: planned[key] for key in ("changed", "changed_files", "pending", "diff")} == {
        key: done[key] for key in ("changed", "changed_files", "pending", "diff")
    }


def test_check_mode_passes_where_users_and_checkers_are_not_there_yet(run, conf) -> None:
    result = run(
        {"dest": str(conf), "content": "x", "owner": "no-such-user", "validate": "no-such-checker %s"},
        verify=["no-such-checker"],
        check=True,
    )
    assert result["changed"] is True


def test_mode_alone_is_put_right(run, conf) -> None:
    run({"dest": str(conf), "content": "x"})
    run(state="applied")
    conf.chmod(0o666)
    result = run({"dest": str(conf), "content": "x"})
    assert result["changed_files"] == [str(conf)]
    assert mode_of(conf) == 0o644


def test_an_unknown_owner_stops_before_the_first_write(run, conf) -> None:
    other = conf.with_name("first.conf")
    result = run({"dest": str(other), "content": "x"}, {"dest": str(conf), "content": "x", "owner": "no-such-user"})
    assert result["reason"] == "unknown_owner"
    assert "no-such-user" in result["msg"]
    assert not other.exists()


def test_a_link_is_made_moved_and_replaces_a_file(run, tmp_path) -> None:
    link = tmp_path / "current"
    link.write_text("in the way")
    for target in ("a", "b"):
        run({"dest": str(link), "state": "link", "target": target})
        assert os.readlink(link) == target
    run(state="applied")
    assert run({"dest": str(link), "state": "link", "target": "b"})["changed"] is False


def test_a_kept_file_is_written_once(run, conf) -> None:
    run({"dest": str(conf), "content": "first", "keep": True})
    run(state="applied")
    assert run({"dest": str(conf), "content": "second", "keep": True})["changed"] is False
    assert conf.read_text() == "first"


def test_purge_removes_what_the_bundle_does_not_name(run, tmp_path) -> None:
    folder = tmp_path / "conf.d"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "deep").write_text("x")
    (folder / "stale.conf").write_text("x")
    (folder / "stale.link").symlink_to("/nowhere")
    wanted = ({"dest": str(folder / "a.conf"), "content": "a"}, {"dest": str(folder / "sub" / "b.conf"), "content": "b"})
    result = run(*wanted, purge=[f"{folder}/*"])
    assert {path.name for path in folder.iterdir()} == {"a.conf", "sub"}
    assert str(folder / "stale.conf") in result["changed_files"]
    run(state="applied")
    assert run(*wanted, purge=[f"{folder}/*"])["changed"] is False


def test_an_invalid_file_is_not_written(run, conf) -> None:
    run({"dest": str(conf), "content": "good\n"})
    run(state="applied")
    result = run({"dest": str(conf), "content": "bad\n", "validate": "grep -q good %s"})
    assert result["reason"] == "validate_failed"
    assert str(conf) in result["msg"]
    assert conf.read_text() == "good\n"
    assert run({"dest": str(conf), "content": "good\n"})["changed"] is False


def test_validation_is_no_shell(run, conf, tmp_path) -> None:
    run({"dest": str(conf), "content": "x", "validate": f"test -f %s ; touch {tmp_path}/broken-out"})
    assert not (tmp_path / "broken-out").exists()


def test_a_missing_checker_is_an_error(run, conf) -> None:
    result = run({"dest": str(conf), "content": "x", "validate": "no-such-checker %s"})
    assert result["reason"] == "checker_missing"
    assert not conf.exists()


def test_a_failed_verification_puts_everything_back(run, conf, tmp_path) -> None:
    etc = conf.parent
    etc.mkdir()
    conf.write_text("old\n")
    conf.chmod(0o600)
    (etc / "stale.conf").write_text("stale\n")
    (etc / "tree").mkdir()
    (etc / "tree" / "leaf").write_text("leaf\n")
    (etc / "link").symlink_to("old-target")
    before = tree(etc)
    wanted = (
        {"dest": str(conf), "content": "new\n"},
        {"dest": str(etc / "made" / "by" / "us.conf"), "content": "x"},
        {"dest": str(etc / "folder"), "state": "directory"},
        {"dest": str(etc / "link"), "state": "link", "target": "new-target"},
        {"dest": str(etc / "stale.conf"), "state": "absent"},
        {"dest": str(etc / "tree"), "content": "a file where a directory was"},
    )
    result = run(*wanted, verify=["sh -c 'echo line 7: unknown keyword >&2; exit 3'"])
    assert result["reason"] == "verify_failed"
    assert "ended with 3: line 7: unknown keyword" in result["msg"]
    assert tree(etc) == before
    assert run(check=True)["pending"] == []
    done = run(*wanted, verify=["true"])
    assert done["changed"] is True
    assert (etc / "tree").read_text().startswith("a file")
    assert not list(etc.glob(".*"))


def test_a_write_error_puts_everything_back(run, conf, tmp_path, monkeypatch) -> None:
    conf.parent.mkdir()
    conf.write_text("old\n")
    replace = config_files_apply.replace_file

    def full_disk(path: str, *others: Any) -> None:
        if path.endswith("second.conf"):
            raise OSError(28, "No space left on device", path)
        replace(path, *others)

    monkeypatch.setattr(config_files_apply, "replace_file", full_disk)
    result = run({"dest": str(conf), "content": "new\n"}, {"dest": str(conf.with_name("second.conf")), "content": "x"})
    assert result["reason"] == "write_failed"
    assert "No space left on device" in result["msg"]
    assert conf.read_text() == "old\n"


def test_what_is_not_applied_stays_pending(run, conf) -> None:
    """A run that dies before its handlers reports the change again, until a handler says that it is in use."""
    wanted = {"dest": str(conf), "content": "x"}
    run(wanted)
    again = run(wanted)
    assert (again["changed"], again["changed_files"], again["pending"]) == (True, [], [str(conf)])
    assert run(wanted, check=True)["changed"] is True
    run(state="applied", check=True)
    assert run(wanted)["changed"] is True
    run(state="applied")
    assert run(wanted)["changed"] is False


def test_a_kill_between_writing_and_checking_is_made_good(run, conf, monkeypatch) -> None:
    wanted = {"dest": str(conf), "content": "x"}

    class Killed(BaseException):
        """As SIGKILL: nothing of ours runs after it."""

    def die(self: Bundle) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Bundle, "_verify", die)
        with pytest.raises(Killed):
            run_without_exit(run, wanted)
    result = run(wanted, verify=["false"])
    assert result["reason"] == "verify_failed"
    assert run(wanted, verify=["true"])["pending"] == [str(conf)]


def run_without_exit(run: Callable[..., Any], wanted: dict[str, Any]) -> None:
    run(wanted, verify=["true"])


def test_a_kill_before_daemon_reload_is_made_good(run, tmp_path) -> None:
    wanted = {"dest": str(tmp_path / "units" / "thing.service"), "content": "x"}
    assert ["systemctl", "daemon-reload"] in run(wanted)["commands"]
    assert ["systemctl", "daemon-reload"] in run(wanted)["commands"]
    run(state="applied")
    assert run(wanted)["commands"] == []


def test_a_watched_file_counts_as_a_change(run, conf, tmp_path) -> None:
    certificate = tmp_path / "host.crt"
    certificate.write_text("one")
    wanted = {"dest": str(conf), "content": "x"}
    run(wanted, watch=[str(certificate)])
    run(state="applied")
    assert run(wanted, watch=[str(certificate)])["changed"] is False
    certificate.write_text("two")
    assert run(wanted, watch=[str(certificate)], check=True)["pending"] == [str(certificate)]
    result = run(wanted, watch=[str(certificate)])
    assert (result["changed"], result["changed_files"], result["pending"]) == (True, [], [str(certificate)])
    run(state="applied")
    assert run(wanted, watch=[str(certificate)])["changed"] is False


def test_a_secret_is_in_no_result(run, conf) -> None:
    result = run({"dest": str(conf), "content": "password hunter2hunter2\n", "secret": True})
    assert "hunter2" not in json.dumps(result)
    assert mode_of(conf) == 0o640


def test_a_secret_open_to_everyone_is_refused(run, conf) -> None:
    result = run({"dest": str(conf), "content": "x", "secret": True, "mode": "0644"})
    assert result["reason"] == "secret_exposed"
    assert not conf.exists()


def test_a_secret_is_never_readable_on_its_way(tmp_path, monkeypatch) -> None:
    """The temporary file has its final mode before it has its final name."""
    seen = []
    replace = os.replace

    def watched(source: str, target: str) -> None:
        seen.append(stat.S_IMODE(os.stat(source).st_mode))
        replace(source, target)

    monkeypatch.setattr(config_files_apply.os, "replace", watched)
    bundle = Bundle("x", Host(lambda _: (0, "", ""), shutil.which), pending_dir=str(tmp_path / "p"))
    item = Wanted(str(tmp_path / "key"), content="s", owner=ME, group=MY_GROUP, mode=0o600, secret=True)
    bundle.apply(plan([item], {}), [])
    assert seen[-1] == 0o600


def test_bytes_that_are_no_text_come_back_unharmed(run, conf) -> None:
    conf.parent.mkdir()
    conf.write_bytes(b"\xff\x00binary")
    result = run({"dest": str(conf), "content": "text"}, verify=["false"])
    assert result["reason"] == "verify_failed"
    assert conf.read_bytes() == b"\xff\x00binary"


def test_stale_spares_directories_that_hold_named_files(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert [item.path for item in stale([f"{tmp_path}/*"], [f"{tmp_path}/a/x"])] == [f"{tmp_path}/b"]


def test_byte_code_is_not_stale(tmp_path) -> None:
    for name in ("__pycache__", "old"):
        (tmp_path / name).mkdir()
    assert [item.path for item in stale([f"{tmp_path}/*"], [])] == [f"{tmp_path}/old"]


def test_numbers_stand_for_owners_without_a_name() -> None:
    assert config_files_apply.owner_ids(Wanted("/x", owner="4242424", group=None)) == (4242424, -1)
    with pytest.raises(BundleError, match="no group 'nope'"):
        config_files_apply.owner_ids(Wanted("/x", owner=None, group="nope"))


def test_the_module_runs_as_a_process_of_its_own(tmp_path) -> None:
    """Arguments through the real AnsibleModule: types, choices and the masking of the payload."""
    target = tmp_path / "by-itself.conf"
    contents = {str(target): "text\n"}
    arguments = {
        "name": f"unit-test-{os.getpid()}",
        "files": [{"dest": str(target), "owner": ME, "group": MY_GROUP, "mode": "0600"}],
        "payload": base64.b64encode(zlib.compress(json.dumps(contents).encode())).decode(),
        "_ansible_check_mode": True,
        "_ansible_diff": True,
    }
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder\n"
        "_AnsibleCollectionFinder(paths=[sys.argv[1]])._install()\n"
        "import ansible.module_utils.basic as basic\n"
        "basic._ANSIBLE_PROFILE = 'legacy'\n"
        "basic._ANSIBLE_ARGS = sys.stdin.buffer.read()\n"
        "from ansible_collections.uptier.platform.plugins.modules import config_files\n"
        "config_files.main()\n"
    )
    collections = Path(__file__).resolve().parents[4] / ".cache" / "collections"
    done = subprocess.run(
        [sys.executable, "-c", code, str(collections)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["changed_files"] == [str(target)]
    assert "+text" in result["diff"][0]["prepared"]
    assert not target.exists()
