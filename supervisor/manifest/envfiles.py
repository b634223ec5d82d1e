"""Files with `NAME=value` lines.

Decides their grammar. What they hold is secret: no message of this module repeats a word of a file.
"""

import re
from pathlib import Path

from supervisor.manifest.fields import LONGEST_TEXT_BYTES, VARIABLE_NAME, is_reserved
from supervisor.manifest.text import UnreadableError, read_text

_NAME = re.compile(VARIABLE_NAME)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "$": "$", "`": "`"}

MOST_VARIABLES = 10_000


class EnvironmentFileError(Exception):
    """A file that cannot be used: the line where it happened (1 where there is none), and why."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        self.message = message
        super().__init__(line, message)


def read(path: Path, *, optional: bool = False) -> dict[str, str]:
    """The variables of a file; none where it is missing and may be.

    Raises:
        EnvironmentFileError: It cannot be read, or is not of this grammar.
    """
    if optional and not path.exists():
        return {}
    try:
        text = read_text(path)
    except UnreadableError as error:
        raise EnvironmentFileError(1, f"cannot read the environment file: {error}") from error
    return parse(text)


def parse(text: str) -> dict[str, str]:
    r"""Variables from text: `NAME=value`, `export NAME='value'`, `# comment`; quotes may span lines.

    In double quotes `\n`, `\t`, `\r`, `\"`, `\\`, `\$` and a backslash before the end of a line are
    escapes. Nothing is expanded, and `#` inside a value is part of it.

    Raises:
        EnvironmentFileError: A line is something else.
    """
    variables: dict[str, str] = {}
    lines = text.replace("\r\n", "\n").split("\n")
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        number += 1
        if not line or line[0] in "#;":
            continue
        name, equals, rest = line.removeprefix("export ").partition("=")
        name = name.strip()
        if not equals:
            raise EnvironmentFileError(number, 'expected NAME=value, found a line without "="')
        if not _NAME.match(name):
            raise EnvironmentFileError(
                number, "expected a name of letters, digits and _, found something else"
            )
        if is_reserved(name):
            raise EnvironmentFileError(
                number, f"expected a variable of the worker, found {name} (pitbossd sets it)"
            )
        opened, rest = number, rest.lstrip()
        if rest[:1] in {"'", '"'}:
            # The end of the line counts inside quotes, so the line is taken as it was written.
            rest = lines[number - 1].partition("=")[2].lstrip()
            value, number = _quoted(lines, rest, number)
        else:
            value = rest.rstrip()
        _fits(value, opened)
        variables[name] = value
        if len(variables) > MOST_VARIABLES:
            raise EnvironmentFileError(opened, f"expected at most {MOST_VARIABLES} variables, found more")
    return variables


def _quoted(lines: list[str], first: str, number: int) -> tuple[str, int]:
    """The value in quotes that begins `first`, and the number of the line after it."""
    opened, quote = number, first[0]
    pieces: list[str] = []
    line, at = first, 1
    while True:
        if at >= len(line):
            if number >= len(lines):
                raise EnvironmentFileError(opened, "expected a closing quote, found the end of the file")
            line, at, number = lines[number], 0, number + 1
            pieces.append("\n")
            continue
        char = line[at]
        if char == quote:
            after = line[at + 1 :].strip()
            if after and after[0] != "#":
                raise EnvironmentFileError(number, "expected nothing after the closing quote, found more")
            return "".join(pieces), number
        if char == "\\" and quote == '"':
            at += 1
            if at < len(line):
                pieces.append(_ESCAPES.get(line[at], "\\" + line[at]))
            elif number < len(lines):
                line, at, number = lines[number], 0, number + 1
                continue
        else:
            pieces.append(char)
        at += 1


def _fits(value: str, line: int) -> None:
    if len(value.encode("utf-8", "surrogatepass")) > LONGEST_TEXT_BYTES:
        raise EnvironmentFileError(line, f"expected at most {LONGEST_TEXT_BYTES} bytes, found a longer value")
