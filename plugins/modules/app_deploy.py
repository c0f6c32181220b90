#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: app_deploy
short_description: Lock a release of an application on all its hosts, and write down how it ended
version_added: 0.1.0
description:
  - One host keeps the lock. It names its holder, ends by itself when it is not renewed in time, and is taken over at once where
    its holder was a run on the same controller that is dead.
  - Every host keeps the record of releases, and which one came before. The end of a release is also a line in the journal
    (C(journalctl -t uptier-release)).
options:
  application:
    description: Name of the application.
    type: str
    required: true
  state:
    description:
      - V(locked) takes the lock, V(renewed) keeps it for another O(seconds).
      - V(ended) writes the record of this host and gives the lock back where this host keeps it.
    type: str
    choices: [locked, renewed, ended]
    required: true
  what:
    description: What is done, for whoever meets the lock.
    type: str
    default: ""
  seconds:
    description: How long the lock lasts unless it is renewed.
    type: int
    default: 600
  seen:
    description:
      - The newest entry of the record when the release was planned, with O(state=locked). Where there is another one now, the plan is
        out of date, and the module fails. Without it, nothing is compared.
    type: str
  result:
    description: How the release ended.
    type: str
    choices: [succeeded, failed]
    default: succeeded
  version:
    description: The version that was released, or was to be.
    type: str
    default: ""
  before:
    description: The release that ran before.
    type: str
    default: ""
  strategy:
    description: How it was released.
    type: str
    default: ""
  said:
    description: Why it failed.
    type: str
    default: ""
  declared:
    description: The version that the inventory names. Runs of a tier leave another one alone until the inventory changes.
    type: str
    default: ""
  tolerate:
    description: Return what fails in RV(failure) and go on.
    type: bool
    default: false
  holder: {description: Filled in by the action plugin; do not set it., type: dict}
  dead: {description: Filled in by the action plugin; do not set it., type: str, default: ""}
attributes:
  check_mode:
    description: Tells whether the lock could be taken; writes nothing.
    support: full
  diff_mode:
    description: Neither the lock nor the record are configuration.
    support: none
  platform:
    description: Target platforms.
    platforms: posix
    support: full
author:
  - The uptier.platform authors (@uptier)
"""

EXAMPLES = r"""
- name: Lock it
  uptier.platform.app_deploy:
    application: shop
    state: locked
    what: release 1.4.2
    seconds: 900

- name: Write down that it ended
  uptier.platform.app_deploy:
    application: shop
    state: ended
    version: 1.4.2
    before: 1.4.1
    strategy: rolling
"""

RETURN = r"""
lock:
  description:
    - Why the lock could be taken. It was V(free) or V(mine), its time was over (V(expired)), or its holder is gone (V(dead)).
  returned: O(state=locked)
  type: str
  sample: free
holder:
  description: Who holds the lock.
  returned: O(state=locked) and somebody else works
  type: dict
failure:
  description: What failed, with O(tolerate). It has V(reason) and V(said).
  returned: O(tolerate) and something failed
  type: dict
reason:
  description: Machine-readable cause of a failure, V(locked), V(lost), V(outdated) or V(host_error).
  returned: on failure
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.uptier.platform.plugins.module_utils.application.deploy_apply import Deploy, Held, bare
from ansible_collections.uptier.platform.plugins.module_utils.application.release_apply import ReleaseError


def act(module: AnsibleModule, deploy: Deploy) -> dict[str, Any]:
    given = module.params
    if given["state"] == "locked":
        return {"lock": deploy.take(given["what"], given["seconds"], given["dead"], not module.check_mode, given["seen"])}
    if module.check_mode:
        return {}
    if given["state"] == "renewed":
        deploy.renew(given["what"], given["seconds"])
    else:
        entry = {key: given[key] for key in ("what", "result", "version", "before", "strategy", "said")}
        deploy.end(entry, given["declared"])
    return {}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "application": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["locked", "renewed", "ended"], "required": True},
            "what": {"type": "str", "default": ""},
            "seconds": {"type": "int", "default": 600},
            "seen": {"type": "str"},
            "result": {"type": "str", "choices": ["succeeded", "failed"], "default": "succeeded"},
            "version": {"type": "str", "default": ""},
            "before": {"type": "str", "default": ""},
            "strategy": {"type": "str", "default": ""},
            "said": {"type": "str", "default": ""},
            "declared": {"type": "str", "default": ""},
            "tolerate": {"type": "bool", "default": False},
            "holder": {"type": "dict"},
            "dead": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    deploy = Deploy(bare(module.run_command, module.params["application"]), module.params["holder"])
    try:
        # A lock and a record change nothing that a user would call his platform.
        module.exit_json(changed=False, **act(module, deploy))
    except Held as error:
        module.fail_json(msg=str(error), reason=error.reason, holder=error.lock["holder"])
    except ReleaseError as error:
        module.fail_json(msg=str(error), reason=error.reason)
    except OSError as error:
        module.fail_json(msg=f"This host could not be told about the release: {error}. Is its disk full?", reason="host_error")


if __name__ == "__main__":
    main()
