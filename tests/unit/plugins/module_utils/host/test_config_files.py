# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host.config_files import (
    BundleError,
    Seen,
    Step,
    Wanted,
    describe,
    plan,
    wanted_mode,
)
from hypothesis import given
from hypothesis import strategies as st

PATH = "/etc/thing.conf"
MODES = st.sampled_from([None, 0o600, 0o640, 0o644, 0o755])
NAMES = st.sampled_from(["root", "redis", "postgres"])
TEXT = st.text(max_size=30)
WANTED = st.builds(
    Wanted,
    path=st.just(PATH),
    state=st.sampled_from(["file", "directory", "link", "absent"]),
    content=TEXT,
    target=st.sampled_from(["/a", "/b"]),
    owner=NAMES,
    group=NAMES,
    mode=MODES,
    secret=st.booleans(),
    keep=st.booleans(),
)
SEEN = st.builds(
    Seen,
    kind=st.sampled_from(["absent", "file", "directory", "link", "other"]),
    content=TEXT,
    target=st.sampled_from(["/a", "/b"]),
    owner=NAMES,
    group=NAMES,
    mode=st.sampled_from([0o600, 0o644, 0o755]),
)


def carried_out(item: Wanted, now: Seen) -> Seen:
    """Say what stands at the path after the step, as a host would show it."""
    if item.state == "absent":
        return Seen()
    return Seen(
        kind=item.state,
        content=item.content if item.state == "file" else None,
        target=item.target if item.state == "link" else None,
        owner=item.owner,
        group=item.group,
        mode=item.mode if item.mode is not None else now.mode,
    )


def only_step(item: Wanted, now: Seen) -> Step:
    steps = plan([item], {item.path: now})
    assert len(steps) == 1
    return steps[0]


@given(item=WANTED, now=SEEN)
def test_what_has_been_done_needs_no_step(item: Wanted, now: Seen) -> None:
    after = carried_out(item, now) if plan([item], {PATH: now}) else now
    assert plan([item], {PATH: after}) == []


@given(item=WANTED, now=SEEN)
def test_a_kept_file_is_made_and_never_touched(item: Wanted, now: Seen) -> None:
    if not item.keep or item.state == "absent":
        return
    assert bool(plan([item], {PATH: now})) == (now.kind == "absent")


@given(item=WANTED, now=SEEN, secret=st.text(alphabet="abcdef0123456789", min_size=16, max_size=20))
def test_a_secret_is_in_no_diff(item: Wanted, now: Seen, secret: str) -> None:
    hidden = Wanted(path=PATH, content=f"password = {secret}\n", secret=True, mode=item.mode)
    for step in plan([hidden], {PATH: now}):
        assert secret not in describe(step)["prepared"]


def test_steps_keep_the_order_of_the_bundle() -> None:
    items = [Wanted(path=path) for path in ("/b", "/a", "/c")]
    assert [step.path for step in plan(items, {})] == ["/b", "/a", "/c"]


@pytest.mark.parametrize(
    ("item", "now", "facets"),
    [
        (Wanted(PATH, content="x"), Seen(), ["create"]),
        (Wanted(PATH, content="x"), Seen(kind="directory"), ["type"]),
        (Wanted(PATH, content="x"), Seen("file", "y", None, "root", "root", 0o644), ["content"]),
        (Wanted(PATH, content="x", mode=0o600), Seen("file", "x", None, "root", "root", 0o644), ["mode"]),
        (Wanted(PATH, content="x", owner="a", group="b"), Seen("file", "x", None, "c", "d"), ["owner", "group"]),
        (Wanted(PATH, state="link", target="/new"), Seen("link", target="/old"), ["target"]),
        (Wanted(PATH, state="absent"), Seen("file"), ["remove"]),
    ],
)
def test_facets_name_what_differs(item: Wanted, now: Seen, facets: list[str]) -> None:
    assert only_step(item, now).facets == facets


def test_a_diff_shows_text_modes_and_owners() -> None:
    item = Wanted(PATH, content="port 2\n", owner="redis", mode=0o640)
    shown = describe(only_step(item, Seen("file", "port 1\n", None, "root", "root", 0o644)))["prepared"]
    assert "-port 1\n+port 2\n" in shown
    assert "owner: root -> redis" in shown
    assert "mode: 0644 -> 0640" in shown


def test_a_diff_does_not_print_bytes() -> None:
    binary = b"\x00\xff\xfe".decode("utf-8", "surrogateescape")
    shown = describe(only_step(Wanted(PATH, content="text"), Seen("file", binary)))["prepared"]
    assert "not text" in shown
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "state", "secret", "mode"),
    [
        (None, "file", False, 0o644),
        (None, "file", True, 0o640),
        (None, "directory", False, 0o755),
        (None, "link", False, None),
        ("0600", "file", True, 0o600),
        ("2750", "directory", False, 0o2750),
    ],
)
def test_modes(text: str | None, state: str, secret: bool, mode: int | None) -> None:
    assert wanted_mode(PATH, text, state, secret) == mode


@pytest.mark.parametrize("text", ["u=rw", "0888", "", "64"])
def test_a_mode_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match="octal digits") as caught:
        wanted_mode(PATH, text, "file", False)
    assert caught.value.reason == "bad_mode"


@pytest.mark.parametrize("text", ["0644", "0604", "0641"])
def test_a_secret_open_to_everyone_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match=PATH) as caught:
        wanted_mode(PATH, text, "file", True)
    assert caught.value.reason == "secret_exposed"
