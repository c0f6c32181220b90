# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a value is written into the file of each daemon, so that it is read back as it was. Pure functions.

One function for each format; every template that writes what a user chose into that format uses it. A value that needs
no quotes gets none, so that files stay readable. What a format cannot hold is refused, and the message does not show it,
since it may be a secret. Numbers are written as they are, truth values in lower case, nothing as the empty text.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.application.release import WHOLE, is_relative, literal_dollars

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What means itself in every format here. No daemon takes these for a comment, a variable, an escape or the end of a word.
BARE = re.compile(r"[A-Za-z0-9_./:@+=,-]+")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# systemd takes the lines of a value, and no other control characters.
SYSTEMD_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# What YAML takes for a line break or refuses where it is not written as an escape; JSON has no such rule.
YAML_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
SURROGATES = re.compile("[\ud800-\udfff]")
# What Grafana expands in its file: variables, references to other keys; and what would end its own quotes.
GRAFANA_EXPANDED = re.compile(r'\$(__\w+)?\{|%\(|"""')


class QuotingError(ValueError):
    """The format has no way to write the value; the message says which and what to do, and never the value."""


def text_of(value: Any) -> str:
    """Return a value as programs expect it."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _checked(value: Any, daemon: str, refused: re.Pattern[str] = CONTROL) -> str:
    text = text_of(value)
    if refused.search(text):
        raise QuotingError(f"A value for {daemon} has a control character or a line break, which its file cannot hold. Choose one without.")
    return text


def environment_line(name: str, value: Any) -> str:
    """Return NAME="value" as systemd reads it from an EnvironmentFile; truth values and numbers as programs expect them."""
    if not VARIABLE.fullmatch(str(name)):
        raise QuotingError(f"{name!r} is not a name for an environment variable; use letters, digits and _.")
    quoted = re.sub(r'([\\"`$])', r"\\\1", _checked(value, "systemd", SYSTEMD_CONTROL))
    return f'{name}="{quoted}"'


def systemd_environment(name: str, value: Any) -> str:
    """Return "NAME=value" for a line Environment= of a unit, where % begins a specifier and $ means itself."""
    if not VARIABLE.fullmatch(str(name)):
        raise QuotingError(f"{name!r} is not a name for an environment variable; use letters, digits and _.")
    return _systemd_word(f"{name}={_checked(value, 'systemd', SYSTEMD_CONTROL)}", always=True)


def _systemd_word(text: str, always: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("%", "%%")
    return f'"{escaped}"' if always or not BARE.fullmatch(text) else text


def systemd_command(command: str, directory: str = "") -> str:
    """Return a command for ExecStart=. Its words are those of a shell, $NAME and ${NAME} come from the environment.

    A program whose path is relative is looked for in the directory, where specifiers such as %i are replaced.
    """
    try:
        words = shlex.split(_checked(command, "systemd"))
    except ValueError as error:
        raise QuotingError(f"A command has a quote that does not end ({error}). Close it.") from error
    if not words:
        raise QuotingError("A command is empty. Say what the unit starts.")
    program, *rest = [_command_word(word) for word in words]
    if directory and is_relative(words[0]):
        program = f'"{directory}/{program[1:-1]}"' if program.startswith('"') else f"{directory}/{program}"
    return " ".join([program, *rest])


def _command_word(word: str) -> str:
    return word if WHOLE.fullmatch(word) else _systemd_word(literal_dollars(word))


def haproxy(value: Any) -> str:
    """Return one word of haproxy.cfg. Nothing means anything within its single quotes."""
    text = _checked(value, "HAProxy")
    return text if BARE.fullmatch(text) else "'" + text.replace("'", "'\\''") + "'"


def haproxy_format(value: Any) -> str:
    """Return one word of haproxy.cfg where a log format is expected: % begins a variable there, also within quotes."""
    return haproxy(_checked(value, "HAProxy").replace("%", "%%"))


def nginx(value: Any) -> str:
    """Return one word of nginx.conf where variables are replaced; nginx.conf has $uptier_dollar for the sign itself."""
    text = _checked(value, "nginx")
    if BARE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "${uptier_dollar}") + '"'


def nginx_path(value: Any) -> str:
    """Return one word of nginx.conf where $ means itself: the path of a location."""
    text = _checked(value, "nginx")
    return text if BARE.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def keepalived(value: Any) -> str:
    """Return one word of keepalived.conf, where # and ! begin comments."""
    text = _checked(value, "keepalived")
    if re.search(r'["\\]|\$\{?_', text):
        raise QuotingError('A value for keepalived has ", \\ or $_, which its file cannot hold in all versions. Choose one without.')
    return text if BARE.fullmatch(text) else f'"{text}"'


def pgbouncer_setting(value: Any) -> str:
    """Return the value of a setting of pgbouncer.ini, which reaches to the end of its line."""
    text = _checked(value, "PgBouncer")
    if text != text.strip():
        raise QuotingError("A value for PgBouncer begins or ends with a space, which its file cannot hold. Choose one without.")
    return text


def pgbouncer_parameter(value: Any) -> str:
    """Return a value of a connection string in the section [databases] of pgbouncer.ini."""
    text = _checked(value, "PgBouncer")
    return text if BARE.fullmatch(text) else "'" + text.replace("'", "''") + "'"


def redis_setting(value: Any) -> str:
    """Return one word of redis.conf."""
    text = _checked(value, "Redis")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def redis_acl(value: Any) -> str:
    """Return one word of Redis' file of users, which has no quotes: a space ends it."""
    text = _checked(value, "Redis")
    if not text or re.search(r"\s", text):
        raise QuotingError("A word in the file of Redis' users has a space or is empty, which the file cannot hold. Choose one without.")
    return text


def pgbackrest(value: Any) -> str:
    """Return the value of a setting of pgbackrest.conf, which reaches to the end of its line."""
    text = _checked(value, "pgBackRest")
    if text != text.strip():
        raise QuotingError("A value for pgBackRest begins or ends with a space, which its file cannot hold. Choose one without.")
    return text


def libpq(value: Any) -> str:
    """Return a value of a connection string as libpq reads it, and what follows it: NAME=value."""
    text = _checked(value, "PostgreSQL")
    return text if BARE.fullmatch(text) else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def grafana(value: Any) -> str:
    """Return the value of a key of grafana.ini; variables in it ($__file{...}, ${NAME}, %(key)s) are expanded by Grafana."""
    text = _checked(value, "Grafana")
    if BARE.fullmatch(text) or not text:
        return text
    if '"""' in text or text.endswith('"'):
        raise QuotingError("A value for Grafana has three quotes or ends with a quote, which its file cannot hold. Choose one without.")
    return f'"""{text}"""'


def grafana_literal(value: Any) -> str:
    """Return the value of a key of grafana.ini in which nothing is expanded: a password."""
    if GRAFANA_EXPANDED.search(text_of(value)):
        raise QuotingError("A password for Grafana has ${, $__name{, %( or three quotes, which it would expand. Choose one without.")
    return grafana(value)


def yaml_value(value: Any) -> str:
    """Return a text, a number, a truth value or a list of these as YAML in one line; daemons read it back as it was."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(yaml_value, value))}]"
    text = json.dumps(value, ensure_ascii=False)
    if SURROGATES.search(text):
        raise QuotingError("A value has half of a character (a surrogate), which no file can hold. Choose one without.")
    return YAML_ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
