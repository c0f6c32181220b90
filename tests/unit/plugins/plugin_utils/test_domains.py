# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How domains are written, and which names they cover."""

from __future__ import annotations

import contextlib

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import domains
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Shop.Example.ORG", "shop.example.org"),
        ("shop.example.org.", "shop.example.org"),
        ("müller.example", "xn--mller-kva.example"),
        ("*.Müller.example", "*.xn--mller-kva.example"),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("例え.jp", "xn--r8jz45g.jp"),
        ("localhost", "localhost"),
    ],
)
def test_domains_are_written_in_one_way(text: str, normal: str) -> None:
    assert domains.normal(text) == normal


@pytest.mark.parametrize(
    "text", ["", " ", "*", "*.", "a..b", "-a.test", "a b.test", "a;b", "x" * 64 + ".test", "é" * 300, "*.*.test", "a.test#"]
)
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(domains.DomainError):
        domains.normal(text)


@given(st.text(max_size=40))
def test_what_is_normal_stays_as_it_is(text: str) -> None:
    with contextlib.suppress(domains.DomainError):
        once = domains.normal(text)
        assert domains.normal(once) == once
        assert once.isascii()


@pytest.mark.parametrize(
    ("domain", "name", "whether"),
    [
        ("shop.test", "shop.test", True),
        ("shop.test", "a.shop.test", False),
        ("*.shop.test", "a.shop.test", True),
        ("*.shop.test", "a.b.shop.test", True),
        ("*.shop.test", "shop.test", False),
        ("*.shop.test", "otshop.test", False),
        ("*.shop.test", "*.eu.shop.test", True),
        ("*.eu.shop.test", "*.shop.test", False),
    ],
)
def test_which_names_a_domain_covers(domain: str, name: str, whether: bool) -> None:
    assert domains.covers(domain, name) is whether


def test_the_best_domain_is_a_name_then_the_longest_wildcard() -> None:
    known = ["*.test", "*.shop.test", "a.shop.test"]
    assert [domains.best(name, known) for name in ("a.shop.test", "b.shop.test", "c.test", "x.org")] == [
        "a.shop.test",
        "*.shop.test",
        "*.test",
        None,
    ]
