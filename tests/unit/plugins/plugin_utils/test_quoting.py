# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Any printable text is read back as it was written, in every format.

The daemons are not on the machine of the unit tests: not verified here is that they read what the readers below read,
which follow their documented rules. The scenarios give the daemons such values.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils import quoting
from hypothesis import example, given
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=128) | st.text("\"'\\ $%#!;:@{}~`|&=,.", max_size=24)
LINES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[chr(code) for code in [*range(9), *range(11, 32), 127]]), max_size=60
)
C_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}


# -- readers ---------------------------------------------------------------------------------------------------------


def environment_file(line: str) -> str:
    """A double-quoted value of systemd's EnvironmentFile: \\ makes \", \\, ` and $ mean themselves, others keep it; $ means itself."""
    found = re.fullmatch(r'\w+="((?:[^"\\]|\\.)*)"', line, re.DOTALL)
    assert found, "the quotes end before the line does"
    return re.sub(r'\\(["\\`$])', r"\1", found[1])


def systemd_words(text: str) -> list[str]:
    """Words of a unit's setting: quotes around a word, C escapes everywhere, then %% for %."""
    words, word, quote, place = [], None, "", 0
    while place < len(text):
        char = text[place]
        if char == "\\":
            place += 1
            word = (word or "") + C_ESCAPES[text[place]]  # any other is "invalid syntax, ignoring"
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "\"'" and word is None:
            quote, word = char, ""
        elif not quote and char in " \t":
            words += [word] if word is not None else []
            word = None
        else:
            assert quote or char != ";" or word is not None, "a lone ; ends the command"
            word = (word or "") + char
        place += 1
    assert not quote
    words += [word] if word is not None else []
    assert all(re.fullmatch(r"([^%]|%%)*", item, re.DOTALL) for item in words), "a % that is a specifier"
    return [item.replace("%%", "%") for item in words]


def command_words(text: str, variables: dict[str, str]) -> list[str]:
    """Words of ExecStart=: $NAME as a word, ${NAME} anywhere and $$ are replaced."""
    found = []
    for word in systemd_words(text):
        if re.fullmatch(r"\$[A-Za-z_]\w*", word):
            found += variables.get(word[1:], "").split()
            continue
        assert re.fullmatch(r"([^$]|\$\$|\$\{\w+\})*", word, re.DOTALL), "a lone $"
        found.append(re.sub(r"\$\$|\$\{(\w+)\}", lambda match: variables.get(match[1], "") if match[1] else "$", word))
    return found


def haproxy_word(text: str) -> str:
    """One word of HAProxy: strong quotes hold everything, \\ makes the next sign mean itself, # begins a comment, $ a variable in weak quotes."""
    word, place, quoted = "", 0, False
    while place < len(text):
        char = text[place]
        if quoted:
            quoted, word = char != "'", word + ("" if char == "'" else char)
        elif char == "'":
            quoted = True
        elif char == "\\":
            place += 1
            word += text[place]
        else:
            assert char not in ' #"', "the word ends here"
            word += char
        place += 1
    assert not quoted
    return word


def nginx_word(text: str, variables: bool) -> str:
    """One word of nginx: within double quotes \\ goes before \" and \\; then $name and ${name} are replaced."""
    if text.startswith('"'):
        found = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', text, re.DOTALL)
        assert found
        text = re.sub(r'\\([\\"])', r"\1", found[1])
    else:
        assert not re.search(r"[\s;{}'\"\\#$]", text)
        assert text
    if variables:
        assert re.fullmatch(r"([^$]|\$\{uptier_dollar\})*", text)
        text = text.replace("${uptier_dollar}", "$")
    return text


def keepalived_word(text: str) -> str:
    """One word of keepalived: up to the next double quote, or to a space or a comment."""
    if text.startswith('"'):
        found = re.fullmatch(r'"([^"\\]*)"', text)
        assert found
        return found[1]
    assert not re.search(r"[\s!#\"\\]", text)
    return text


def doubled(quote: str) -> Callable[[str], str]:
    """Return a reader of a format in which a quote is written twice within quotes."""

    def read(text: str) -> str:
        if not text.startswith(quote):
            assert not re.search(r"[\s'\"]", text)
            return text
        found = re.fullmatch(f"{quote}((?:[^{quote}]|{quote}{quote})*){quote}", text)
        assert found
        return found[1].replace(quote * 2, quote)

    return read


def redis_word(text: str) -> str:
    found = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', text)
    assert found
    return re.sub(r"\\(.)", r"\1", found[1])


def libpq_value(text: str) -> str:
    """The value of a connection string: within single quotes, or outside of them, a backslash makes the next sign mean itself."""
    quoted = re.fullmatch(r"'((?:[^'\\]|\\.)*)'", text, re.DOTALL)
    assert quoted or re.fullmatch(r"[^\s'\\]+", text)
    return re.sub(r"\\(.)", r"\1", quoted[1] if quoted else text, flags=re.DOTALL)


def grafana_value(text: str) -> str:
    """A value of an INI file as Grafana's library reads it: up to the last three quotes, or without quotes up to a comment."""
    text = text.lstrip()
    if len(text) > 3 and text.startswith('"""'):
        end = text.rindex('"""', 3)
        assert text[end:] == '"""'
        return text[3:end]
    assert not re.search(r"[`#;\"'\\]", text)
    assert text == text.strip()
    return text


def line_value(text: str) -> str:
    """The value of a line of pgbackrest.conf: all of it, without spaces around it."""
    return f"repo1-cipher-pass={text}".partition("=")[2].strip()


FORMATS: dict[str, tuple[Callable[[Any], str], Callable[[str], str]]] = {
    "environment file": (lambda value: quoting.environment_line("KEY", value), environment_file),
    "unit": (lambda value: quoting.systemd_environment("KEY", value), lambda text: systemd_words(text)[0].removeprefix("KEY=")),
    "haproxy": (quoting.haproxy, haproxy_word),
    "haproxy format": (quoting.haproxy_format, lambda text: haproxy_word(text).replace("%%", "%")),
    "nginx": (quoting.nginx, lambda text: nginx_word(text, variables=True)),
    "nginx path": (quoting.nginx_path, lambda text: nginx_word(text, variables=False)),
    "pgbouncer parameter": (quoting.pgbouncer_parameter, doubled("'")),
    "redis": (quoting.redis_setting, redis_word),
    "libpq": (quoting.libpq, libpq_value),
    "yaml": (lambda value: quoting.yaml_value(quoting.text_of(value)), yaml.safe_load),
}


@pytest.mark.parametrize("name", FORMATS)
@given(text=TEXT)
@example(text="costs $5")
@example(text="x#Tr0ub4dor")
@example(text="p#ss")
@example(text="")
@example(text="'")
@example(text="\\")
@example(text="100%")
@example(text="${HOME} $HOME %i %% $$")
def test_any_text_is_read_back(name: str, text: str) -> None:
    write, read = FORMATS[name]
    assert read(write(text)) == text


@pytest.mark.parametrize("name", ["environment file", "unit"])
@given(text=LINES)
def test_systemd_takes_lines_as_well(name: str, text: str) -> None:
    write, read = FORMATS[name]
    assert read(write(text)) == text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=8, max_size=8))
@example("p#ssword")
@example("it's $x!")
def test_keepalived_reads_it_back_or_it_is_refused(text: str) -> None:
    if '"' in text or "\\" in text or "$_" in text or "${_" in text:
        with pytest.raises(quoting.QuotingError):
            quoting.keepalived(text)
    else:
        assert keepalived_word(quoting.keepalived(text)) == text


@given(TEXT)
@example("p#ss;word")
@example("'single' \"double\" \\ %s")
@example(" spaces ")
def test_grafana_reads_it_back_or_it_is_refused(text: str) -> None:
    expanded = re.search(r"\$(__\w+)?\{|%\(", text)
    if '"""' in text or text.endswith('"'):
        with pytest.raises(quoting.QuotingError):
            quoting.grafana(text)
    else:
        assert grafana_value(quoting.grafana(text)) == text
    if expanded:
        with pytest.raises(quoting.QuotingError, match="expand"):
            quoting.grafana_literal(text)


@given(TEXT)
def test_pgbackrest_reads_it_back_or_it_is_refused(text: str) -> None:
    if text != text.strip():
        with pytest.raises(quoting.QuotingError):
            quoting.pgbackrest(text)
    else:
        assert line_value(quoting.pgbackrest(text)) == text


@given(st.recursive(TEXT | st.integers() | st.booleans(), st.lists, max_leaves=6))
@example(["\x7f\x85\u2028\ufeff\U0001f600"])
def test_yaml_keeps_kinds_and_lists(value: Any) -> None:
    written = quoting.yaml_value(value)
    assert yaml.safe_load(written) == value
    assert "\n" not in written
    # Go's readers refuse what JSON makes of a character beyond the first 65,536: two halves.
    assert not re.search(r"(?<!\\)(\\\\)*\\ud[89a-f]", written)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(quoting.QuotingError, match="surrogate"):
        quoting.yaml_value("\ud83d")


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_words_of_a_command_arrive_as_a_shell_would_hand_them_over(words: list[str]) -> None:
    written = quoting.systemd_command(shlex.join(["node", *words]))
    # A word that looks like a variable is one, as it is in a shell without quotes.
    plain = [word for word in words if not re.search(r"^\$[A-Za-z_]\w*$|\$\{[A-Za-z_][A-Za-z0-9_]*\}", word)]
    if plain == words:
        assert command_words(written, {}) == ["node", *words]


@pytest.mark.parametrize(
    ("command", "written", "words"),
    [
        ("node dist/server.js", "node dist/server.js", ["node", "dist/server.js"]),
        ("run --port ${PORT} $FLAGS", 'run --port "${PORT}" $FLAGS', ["run", "--port", "3000", "-a", "-b"]),
        ("run 'costs $5' 100%", 'run "costs $$5" "100%%"', ["run", "costs $5", "100%"]),
        ("./bin/server ;", '/apps/x@%i/./bin/server ";"', ["/apps/x@7/./bin/server", ";"]),
        ("'my bin/server'", '"/apps/x@%i/my bin/server"', ["/apps/x@7/my bin/server"]),
        ("/usr/bin/env x", "/usr/bin/env x", ["/usr/bin/env", "x"]),
    ],
)
def test_commands(command: str, written: str, words: list[str]) -> None:
    found = quoting.systemd_command(command, "/apps/x@%i")
    assert found == written
    assert command_words(found.replace("%i", "7"), {"PORT": "3000", "FLAGS": "-a -b"}) == words


@pytest.mark.parametrize(
    "write",
    [
        *(write for name, (write, dummy) in FORMATS.items() if name != "yaml"),  # which has escapes for everything
        *(quoting.keepalived, quoting.systemd_command, quoting.redis_acl, quoting.grafana, quoting.pgbackrest),
    ],
)
def test_what_no_file_can_hold_is_refused_and_not_shown(write: Callable[[Any], str]) -> None:
    with pytest.raises(quoting.QuotingError) as caught:
        write("secret\x00word")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("write", [quoting.systemd_command, quoting.pgbouncer_setting, quoting.redis_acl])
@pytest.mark.parametrize("value", [" ", "'a b", "a b "])
def test_what_one_format_cannot_hold_is_refused(write: Callable[[Any], str], value: str) -> None:
    if (write, value) in ((quoting.systemd_command, "a b "), (quoting.pgbouncer_setting, "'a b")):
        assert write(value)
    else:
        with pytest.raises(quoting.QuotingError):
            write(value)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("value", "text"), [(48213907, "48213907"), (True, "true"), (None, ""), (1.5, "1.5")])
def test_numbers_and_truth_values_are_texts(name: str, value: Any, text: str) -> None:
    write, read = FORMATS[name]
    assert read(write(value)) == text


@pytest.mark.parametrize("write", [quoting.environment_line, quoting.systemd_environment])
def test_a_bad_environment_name_is_refused(write: Callable[[str, Any], str]) -> None:
    with pytest.raises(quoting.QuotingError, match="'A-B' is not a name"):
        write("A-B", 1)


ANALYZE = shutil.which("systemd-analyze")
NASTY = [
    "costs $5",
    "100% net",
    'a "b" c',
    "it's",
    "back\\slash",
    "\\",
    "$HOME ${HOME} $$",
    "%h %% %",
    "a; b # c",
    " edge ",
    "é € 日本",
    "two\nlines\tand a tab",
    "",
]


def verified(folder: Path, line: str) -> str:
    """Return what systemd itself has against a unit with a line."""
    unit = folder / "uptier-quoting.service"
    unit.write_text(f"[Service]\nExecStart=/bin/true\n{line}\n", encoding="utf-8")
    done = subprocess.run([str(ANALYZE), "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60)
    return "\n".join(text for text in (done.stdout + done.stderr).splitlines() if unit.name in text)


@pytest.mark.skipif(ANALYZE is None, reason="not verified here: systemd-analyze is not on this machine")
def test_systemd_itself_has_nothing_against_it(tmp_path: Path) -> None:
    lines = [f"Environment={quoting.systemd_environment(f'KEY{number}', text)}" for number, text in enumerate(NASTY)]
    commands = [f"ExecStartPost={quoting.systemd_command(shlex.join(['/bin/true', text]))}" for text in NASTY if "\n" not in text]
    assert verified(tmp_path, "\n".join(lines + commands)) == ""
    # It does say something where a line is written as for an EnvironmentFile.
    assert "nvalid syntax" in verified(tmp_path, f"Environment={quoting.environment_line('KEY', 'costs $5')}")
