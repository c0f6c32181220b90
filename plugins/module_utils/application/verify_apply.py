# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Questions to an application on the way on which its users come, over TLS. Standard library only."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.application.release import healthy_hint

PATIENCE_SECONDS = 10  # for one answer
PAUSE_SECONDS = 0.3


class VerifyError(Exception):
    """A question was not answered well enough in time."""


def context_of(question: Mapping[str, Any], tls: Mapping[str, Any]) -> ssl.SSLContext:
    """Return how the other side is verified: a router by the internal authority, and it asks for a certificate in turn.

    A gateway asks itself on its own address. Its certificate is for the names of users, may be of any authority, and is
    watched by probes from outside; what counts here is what is behind it.
    """
    if question["mutual"]:
        context = ssl.create_default_context(cafile=tls["ca"])
        context.load_cert_chain(tls["cert"], tls["key"])
        return context
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(question: Mapping[str, Any], tls: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return status and beginning of an answer, or None and why there is none."""
    try:
        context = context_of(question, tls)
        with closing(http.client.HTTPConnection(question["address"], question["port"], timeout=PATIENCE_SECONDS)) as connection:
            plain = socket.create_connection((question["address"], question["port"]), PATIENCE_SECONDS)
            connection.sock = context.wrap_socket(plain, server_hostname=question["server_name"])
            connection.request("GET", question["path"], headers={"Host": question["domain"], "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read(500).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return None, str(error)


def verify(questions: Iterable[Mapping[str, Any]], tls: Mapping[str, Any], good: int, timeout: float) -> list[str]:
    """Ask each question until it has been answered well `good` times in a row; return what was asked.

    Raises:
        VerifyError: one was not answered so before all time was over; the text has its last answer.
    """
    end, asked = time.monotonic() + timeout, []
    for question in questions:
        row, name = 0, f"https://{question['domain']}{question['path']} through {question['through']}"
        while row < good:
            status, text = ask(question, tls)
            row = row + 1 if status is not None and status <= question["worst"] else 0
            if row < good and time.monotonic() > end:
                raise VerifyError(
                    f"{name} was not answered well {good} times in a row within {timeout:.0f} s. At last: {healthy_hint(status, text)}."
                )
            if not row:
                time.sleep(PAUSE_SECONDS)
        asked.append(name)
    return asked
