# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pairs on a gateway: they change in one step, and the one before stays."""

from __future__ import annotations

import datetime
import os
import stat

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.host import certificate_store as store
from ansible_collections.uptier.platform.plugins.plugin_utils import certificates

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(name="authority", scope="module")
def made_authority():
    return certificates.read_authority(*certificates.create_authority("test", 3650, NOW), "/pki")


@pytest.fixture(autouse=True)
def marker(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "MARKER", str(tmp_path / "run" / "acme_pairs.json"))


@pytest.fixture(name="directory")
def made_directory(tmp_path):
    return str(tmp_path / "tls")


def put(directory, authority, source="selfsigned"):
    key, chain = certificates.issue(authority, ["demo.test"], 90, NOW)
    return chain, store.install(directory, "demo", chain, key, source)


def test_nothing_there(directory):
    assert store.look(directory, "demo") == {"chain": None, "source": "", "fits": False}


def test_first_pair(directory, authority):
    chain, before = put(directory, authority)
    assert before is None
    assert store.look(directory, "demo") == {"chain": chain, "source": "selfsigned", "fits": True}
    assert stat.S_IMODE(os.stat(os.path.join(directory, "demo", store.KEY)).st_mode) == 0o600
    assert store.pending() == ["demo"]
    store.clear()
    assert store.pending() == []


def test_pair_before_can_be_put_back(directory, authority):
    first, dummy = put(directory, authority)
    second, before = put(directory, authority, "acme")
    assert store.look(directory, "demo")["chain"] == second
    store.point(directory, "demo", before)
    assert store.look(directory, "demo")["chain"] == first


def test_only_the_newest_pairs_are_kept(directory, authority):
    for dummy in range(4):
        chain, dummy = put(directory, authority)
    assert len(os.listdir(os.path.join(directory, ".pairs"))) == 2
    assert store.look(directory, "demo")["chain"] == chain


def test_pair_that_was_put_back_again_and_again_survives(directory, authority):
    """The gateway refuses every new pair: the one in use grows old, but it is the one that must not go."""
    first, dummy = put(directory, authority)
    for dummy in range(3):
        dummy, before = put(directory, authority)
        store.point(directory, "demo", before)
    assert store.look(directory, "demo") == {"chain": first, "source": "selfsigned", "fits": True}


def test_link_never_leads_to_nothing(directory, authority):
    chain, dummy = put(directory, authority)
    with pytest.raises(ValueError, match="no usable pair"):
        store.point(directory, "demo", os.path.join(directory, ".pairs", "demo.1"))
    assert store.look(directory, "demo")["chain"] == chain


def test_key_that_does_not_fit_is_refused(directory, authority):
    chain, dummy = put(directory, authority)
    other = certificates.issue(authority, ["demo.test"], 90, NOW)[0]
    with pytest.raises(ValueError, match="does not belong"):
        store.install(directory, "demo", chain, other, "provided")
    assert store.look(directory, "demo")["chain"] == chain
    assert len(os.listdir(os.path.join(directory, ".pairs"))) == 1


def test_directory_of_somebody_else_becomes_the_pair_before(directory, authority):
    os.makedirs(os.path.join(directory, "demo"))
    chain, dummy = put(directory, authority)
    assert store.look(directory, "demo")["chain"] == chain
    assert os.path.isdir(os.path.join(directory, ".pairs", "demo.0"))


def test_sites_whose_names_begin_alike_do_not_share_pairs(directory, authority):
    key, chain = certificates.issue(authority, ["x.test"], 90, NOW)
    for dummy in range(3):
        store.install(directory, "demo.x", chain, key, "selfsigned")
        put(directory, authority)
    assert store.look(directory, "demo.x")["fits"]
    assert store.look(directory, "demo")["fits"]
