"""Text from outside made safe for a terminal, and lines that know how wide they are.

Everything a daemon or a worker wrote is hostile until `clean` has seen it: a status text may hold
escape sequences that clear the screen, move the cursor or answer back into the operator's shell. What
is printed is built from `Span`s, never from markup, so brackets in it mean nothing.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_TEXT = 2000
"""Characters of one text that are kept; no line of a terminal shows more."""

# ECMA-48: CSI … final byte; OSC, DCS, SOS, PM and APC strings up to ST or BEL; two-character escapes.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
_PLAIN = re.compile(r"[ -~]*")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text in one style: "green", "bold red", "dim"; empty is the terminal's own."""

    text: str
    style: str = ""


Line = tuple[Span, ...]
"""One line of output."""


def clean(value: object, limit: int = LONGEST_TEXT) -> str:
    """One line of printable text: escape sequences are removed, other control characters replaced.

    Line breaks and tabs become spaces; invisible and direction-changing characters (category Cf)
    vanish, so that a text cannot pretend to be another one.
    """
    text = value if isinstance(value, str) else "" if value is None else str(value)
    text = text[: 4 * limit]
    if _PLAIN.fullmatch(text):
        return text[:limit]
    text = _SEQUENCES.sub("", text)
    return "".join(map(_printable, text))[:limit]


def _printable(character: str) -> str:
    if " " <= character <= "~":
        return character
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return _REPLACEMENT if category[0] == "C" else character


def width(text: str) -> int:
    """How many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def clip(text: str, cells: int, ellipsis: str = "…") -> str:
    """The text, cut to `cells` cells with an ellipsis if something is missing."""
    if width(text) <= cells:
        return text
    room = cells - width(ellipsis)
    if room < 0:
        return ellipsis[: max(0, cells)]
    kept = ""
    for character in text:
        if width(kept + character) > room:
            break
        kept += character
    return kept.rstrip() + ellipsis


def clip_name(name: str, cells: int, ellipsis: str = "…") -> str:
    """The name of an instance cut inside the pool's name, because the index is what tells them apart."""
    if width(name) <= cells:
        return name
    pool, slash, index = name.rpartition("/")
    tail = slash + index if slash else ""
    return clip(pool if slash else name, max(1, cells - len(tail)), ellipsis) + tail


def pad(text: str, cells: int, *, right: bool = False) -> str:
    """The text filled up with spaces to `cells` cells; `right` aligns it to the right."""
    space = " " * max(0, cells - width(text))
    return space + text if right else text + space


def line_width(line: Iterable[Span]) -> int:
    """How many cells a line takes."""
    return sum(width(span.text) for span in line)


def clip_line(line: Line, cells: int, ellipsis: str = "…") -> Line:
    """The line, cut to `cells` cells with an ellipsis if something is missing."""
    if line_width(line) <= cells:
        return line
    kept: list[Span] = []
    room = cells
    for index, span in enumerate(line):
        taken = width(span.text)
        more = any(later.text.strip() for later in line[index + 1 :])
        if taken > room or (more and taken + width(ellipsis) > room):
            kept.append(
                Span(clip(span.text + (ellipsis if taken <= room else ""), room, ellipsis), span.style)
            )
            break
        kept.append(span)
        room -= taken
    return tuple(kept)


def plain(line: Line) -> str:
    """The line without its styles and without blanks at its end."""
    return "".join(span.text for span in line).rstrip()


def wrap(text: str, cells: int) -> list[str]:
    """The text broken at spaces into lines of at most `cells` cells; what has no spaces is cut up."""
    lines: list[str] = []
    current = ""
    for word in text.split():
        while width(word) > cells:
            if current:
                lines.append(current)
                current = ""
            head = _head(word, cells)
            lines.append(head)
            word = word[len(head) :]  # noqa: PLW2901
        if not current:
            current = word
        elif width(current) + 1 + width(word) <= cells:
            current += " " + word
        else:
            lines.append(current)
            current = word
    return [*lines, current] if current or not lines else lines


def _head(word: str, cells: int) -> str:
    kept = ""
    for character in word:
        if width(kept + character) > max(1, cells):
            break
        kept += character
    return kept or word[:1]
