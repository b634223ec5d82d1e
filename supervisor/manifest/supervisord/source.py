"""A supervisord configuration as sections and settings, each with its file and line.

Follows how supervisord 4.3 reads: the dialect of `configparser`, comments after ` ;` and ` #`, the
last of two equal settings counts, `[include]` reaches one level deep. What a setting means is not
decided here.
"""

import configparser
import glob
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 1024 * 1024
"""Bytes of one file: far more than anybody writes by hand."""

MOST_FILES = 200
"""Files that one `[include]` may bring in."""

_SECTION = re.compile(r"\[(?P<name>[^\]]+)\]")
_SETTING = re.compile(r"(?P<key>[^\s:=;#\[][^:=]*?)\s*[:=]")


class SourceError(Exception):
    """The file cannot be read as a configuration of supervisord; the text says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One `key=value`, and where it stands."""

    key: str
    value: str
    place: str


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its kind (`program`), its name (`web`; empty if it has none), and where it begins."""

    kind: str
    name: str
    place: str
    directory: Path
    settings: Mapping[str, Setting]

    @property
    def title(self) -> str:
        """As it is written in the file."""
        return f"[{self.kind}:{self.name}]" if self.name else f"[{self.kind}]"


def read(path: Path) -> list[Section]:
    """Every section of a file and of those that it includes, in their order.

    Raises `SourceError` when a file cannot be read, is too large or is not INI, or when nothing in it
    is of supervisord.
    """
    sections = list(_sections(path))
    for one in [section for section in sections if section.kind == "include"]:
        files = one.settings.get("files")
        for found in _included(one, files) if files is not None else ():
            # Whatever else an included file includes is ignored by supervisord too.
            sections.extend(section for section in _sections(found) if section.kind != "include")
    if not any(section.kind in {"program", "fcgi-program", "supervisord"} for section in sections):
        raise SourceError(f"cannot convert {path}: it has neither [supervisord] nor any [program:NAME]")
    return sections


def _included(section: Section, files: Setting) -> list[Path]:
    found: list[Path] = []
    for word in files.value.split():
        pattern = word.replace("%(here)s", str(section.directory))
        found.extend(Path(name) for name in sorted(glob.glob(str(section.directory / pattern))))
    if len(found) > MOST_FILES:
        raise SourceError(
            f"cannot convert {files.place}: it includes {len(found)} files, more than {MOST_FILES}"
        )
    return found


def _sections(path: Path) -> Iterator[Section]:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > MOST_BYTES:
        raise SourceError(f"cannot convert {path}: it is longer than {MOST_BYTES} bytes")
    try:
        text = raw.decode()
        parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
        parser.read_string(text, str(path))
    except UnicodeDecodeError as error:
        raise SourceError(f"cannot convert {path}: it is not UTF-8 text (byte {error.start})") from error
    except configparser.Error as error:
        raise SourceError(f"cannot convert {path}: {' '.join(str(error).split())}") from error
    lines = _lines(text)
    for title in parser.sections():
        kind, _, name = title.partition(":")
        settings = {
            key: Setting(key, value or "", f"{path}:{lines.get((title, key), lines[title, ''])}")
            for key, value in parser.items(title)
        }
        yield Section(
            kind.strip(), name.strip(), f"{path}:{lines[title, '']}", path.resolve().parent, settings
        )


def _lines(text: str) -> dict[tuple[str, str], int]:
    """The line of each section (key "") and of each of its settings, the last one where it is said twice."""
    lines: dict[tuple[str, str], int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        title = _SECTION.match(line)
        if title is not None:
            section = title["name"]
            lines.setdefault((section, ""), number)
            continue
        setting = _SETTING.match(line)
        if setting is not None:
            lines[section, setting["key"].lower()] = number
    return lines
