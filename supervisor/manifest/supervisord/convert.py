"""A whole configuration of supervisord as the text of a manifest, and a note for all that is not the same.

Reads files, writes none; that the manifest is valid on this machine is for `pitbossd check` to say.
"""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from supervisor.manifest.supervisord.expand import Expansion
from supervisor.manifest.supervisord.programs import environment, is_true, pool_of, seconds
from supervisor.manifest.supervisord.settings import SECTIONS, SETTINGS, Verdict
from supervisor.manifest.supervisord.source import Section, Setting, read

_NAME = re.compile(r"[^A-Za-z0-9_.-]")
_SILENT = {
    "priority": frozenset({"999"}),
    "exitcodes": frozenset({"0"}),
    "process_name": frozenset({"%(program_name)s", "%(program_name)s_%(process_num)02d"}),
    "chmod": frozenset({"0700", "0770"}),
    **dict.fromkeys(
        ("stdout_events_enabled", "stderr_events_enabled", "stdout_syslog", "stderr_syslog", "strip_ansi"),
        frozenset({"false", "no", "off", "0"}),
    ),
    **dict.fromkeys(("stdout_capture_maxbytes", "stderr_capture_maxbytes"), frozenset({"0"})),
}
"""Values that need no word: they are the default there, or what always happens here."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One setting that is not the same afterwards: where it stands, how it differs, and what to do."""

    place: str
    setting: str
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.setting}: {self.verdict}: {self.text}"


@dataclass(slots=True)
class Converted:
    """The manifest, and what was lost or changed on the way."""

    text: str = ""
    remarks: list[Remark] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether everything has an equivalent, if a different one."""
        return not any(one.verdict is Verdict.LOST for one in self.remarks)


def convert(path: Path, variables: Mapping[str, str] | None = None) -> Converted:
    """Convert a configuration; `variables` are what `%(ENV_X)s` stands for (default: this process's).

    Raises `SourceError` when the file is no configuration of supervisord.
    """
    sections = read(path)
    converted = Converted()
    head: dict[str, Any] = {"version": 1}
    pools: list[tuple[int, str, dict[str, Any], Section]] = []
    variables = os.environ if variables is None else variables
    for section in sections:
        _remark_on(section, converted)
        if section.kind in {"program", "fcgi-program"}:
            pools.append(_program(section, variables, converted))
        elif section.kind in SETTINGS:
            _head(section, head, variables, converted)
    # In the order in which supervisord would have forked them.
    pools.sort(key=lambda one: one[0])
    converted.text = _text(path, head, [(name, pool, section) for _, name, pool, section in pools])
    return converted


def _remark_on(section: Section, converted: Converted) -> None:
    """Say of each setting what the table says, and of what the table does not know that it is unknown."""
    known_section = SECTIONS.get(section.kind)
    if known_section is not None:
        converted.remarks.append(
            Remark(section.place, section.title, known_section.verdict, known_section.note)
        )
        return
    table = SETTINGS.get(section.kind)
    if table is None:
        converted.remarks.append(
            Remark(section.place, section.title, Verdict.UNKNOWN, "supervisord ignores it, and so does this")
        )
        return
    for key, setting in section.settings.items():
        known = table.get(key)
        where = f"{section.title} {key}"
        if known is None:
            text = "supervisord ignores it, and so does this"
            converted.remarks.append(Remark(setting.place, where, Verdict.UNKNOWN, text))
        elif known.verdict in {Verdict.DIFFERS, Verdict.LOST} and not _asks_for_nothing(key, setting):
            converted.remarks.append(Remark(setting.place, where, known.verdict, known.note))


def _asks_for_nothing(key: str, setting: Setting) -> bool:
    """Whether it says what would be so without it, or what always happens here."""
    value = setting.value.lower()
    if key in {"redirect_stderr", "autostart"}:
        return is_true(value)
    return value in _SILENT.get(key, frozenset())


def _noting(section: Section, converted: Converted) -> Any:
    def note(setting: Setting, text: str) -> None:
        where = f"{section.title} {setting.key}"
        converted.remarks.append(Remark(setting.place, where, Verdict.DIFFERS, text))

    return note


def _expansion(section: Section, variables: Mapping[str, str], numprocs: int, first: int) -> Expansion:
    fixed = {
        "program_name": section.name,
        "group_name": section.name,
        "here": str(section.directory),
        "host_node_name": socket.gethostname(),
        "numprocs": str(numprocs),
    }
    return Expansion(fixed, variables, numprocs, first)


def _program(
    section: Section, variables: Mapping[str, str], converted: Converted
) -> tuple[int, str, dict[str, Any], Section]:
    note = _noting(section, converted)

    def number(key: str, default: int, least: int = 0) -> int:
        setting = section.settings.get(key)
        found = seconds(setting, note, least) if setting is not None else None
        return default if found is None else found

    expansion = _expansion(section, variables, number("numprocs", 1, 1), number("numprocs_start", 0))
    if "command" not in section.settings:
        text = "a program without a command: write one"
        converted.remarks.append(Remark(section.place, section.title, Verdict.LOST, text))
    name = _NAME.sub("-", section.name)[:63] or "program"
    if name != section.name:
        text = f"the pool is called {name}: a name has letters, digits, _, . and -, at most 63"
        converted.remarks.append(Remark(section.place, section.title, Verdict.DIFFERS, text))
    return number("priority", 999, -(2**31)), name, pool_of(section, expansion, note), section


def _head(section: Section, head: dict[str, Any], variables: Mapping[str, str], converted: Converted) -> None:
    said, note = section.settings, _noting(section, converted)
    expansion = _expansion(section, variables, 1, 0)

    def text(key: str) -> str:
        setting = said[key]
        return expansion.expand(setting.value, lambda what: note(setting, what))

    defaults: dict[str, Any] = head.get("defaults", {})
    if section.kind == "supervisord":
        if "identifier" in said:
            head["name"] = text("identifier")
        if "directory" in said:
            defaults["working_directory"] = text("directory")
        if "umask" in said:
            defaults["umask"] = said["umask"].value.zfill(4)
        if "environment" in said:
            defaults["environment"] = environment(said["environment"], expansion, note)
        if "childlogdir" in said:
            defaults["logs"] = {"directory": text("childlogdir")}
    elif section.kind == "inet_http_server" and "port" in said:
        port = text("port").replace("*:", "0.0.0.0:").replace("localhost:", "127.0.0.1:")
        head.setdefault("control", {})["http"] = int(port) if port.isdecimal() else port
    if defaults:
        head["defaults"] = defaults


def _text(path: Path, head: Mapping[str, Any], pools: list[tuple[str, dict[str, Any], Section]]) -> str:
    lines = [f"# Converted from {path}; `pitbossd check` says whether it is valid on this machine.", ""]
    lines.append(_yaml(head))
    lines.append("pools:" if pools else "pools: {}")
    for name, pool, section in pools:
        lines.append(f"  # {section.title} at {section.place}")
        body = _yaml({name: pool})
        lines.extend("  " + line for line in body.rstrip("\n").split("\n"))
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, width=100, allow_unicode=True)
