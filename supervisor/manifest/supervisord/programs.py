"""One `[program:NAME]` as a pool of a manifest.

Decides value by value; what a setting means in general stands in `settings`. Whatever is not the same
afterwards is said through `note`.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from supervisor.manifest.presets import PRESETS
from supervisor.manifest.supervisord.expand import Expansion
from supervisor.manifest.supervisord.source import Section, Setting

Note = Callable[[Setting, str], None]

_TRUE = frozenset({"yes", "true", "on", "1"})
_SECRET = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)
_SIZES = {"KB": "KiB", "MB": "MiB", "GB": "GiB"}
_PROGRAMS = {
    "celery": "celery",
    "rq": "rq",
    "dramatiq": "dramatiq",
    "huey_consumer": "huey",
    "huey_consumer.py": "huey",
    "sidekiq": "sidekiq",
    "gunicorn": "gunicorn",
    "uvicorn": "uvicorn",
    "nginx": "nginx",
    "php-fpm": "php-fpm",
    "puma": "puma",
    "postgres": "postgresql",
    "redis-server": "redis",
}
"""Programs that are told by their name, and their preset."""


def is_true(text: str) -> bool:
    """What supervisord takes for yes."""
    return text.lower() in _TRUE


def seconds(setting: Setting, note: Note, least: int = 0) -> int | None:
    """A whole number of seconds; None, said, where it is none."""
    try:
        number = int(setting.value)
    except ValueError:
        number = -1
    if number < least:
        note(setting, f"expected a whole number from {least} on, found {setting.value!r}; left out")
        return None
    return number


def pool_of(section: Section, expansion: Expansion, note: Note) -> dict[str, Any]:
    """The pool of a program, in the order of the reference."""
    said = section.settings
    pool: dict[str, Any] = {}

    def text(key: str) -> str:
        setting = said[key]
        return expansion.expand(setting.value, lambda what: note(setting, what))

    if "command" in said:
        pool["command"] = text("command")
    if expansion.numprocs != 1:
        pool["instances"] = expansion.numprocs
    pool |= {
        to: text(key) for key, to in (("directory", "working_directory"), ("user", "user")) if key in said
    }
    if "umask" in said:
        pool["umask"] = said["umask"].value.zfill(4)
    if "environment" in said:
        pool["environment"] = environment(said["environment"], expansion, note)
    pool |= _sockets(section, expansion, note) | _start(said, note)
    pool["restart"] = _restart(said, note)
    pool["stop"] = _stop(said, note)
    logs = _logs(said, text, note)
    return pool | ({"logs": logs} if logs else {})


def environment(setting: Setting, expansion: Expansion, note: Note) -> dict[str, str]:
    """`A="x",B="y"`, split as supervisord does it."""
    lexer = shlex.shlex(setting.value)
    lexer.wordchars += "/.+-():"
    try:
        words = list(lexer)
    except ValueError as error:
        note(setting, f"cannot be read ({error}); left out")
        return {}
    found: dict[str, str] = {}
    for start in range(0, len(words), 4):
        triple = words[start : start + 3]
        if len(triple) != 3 or triple[1] != "=":
            note(setting, f"cannot be read from {' '.join(words[start:])[:40]!r} on; the rest is left out")
            break
        value = triple[2].strip("'\"")
        found[triple[0]] = expansion.expand(value, lambda what: note(setting, what))
        if _SECRET.search(triple[0]):
            note(setting, f"{triple[0]} looks like a secret: keep it in a file, with environment_files")
    return found


def _sockets(section: Section, expansion: Expansion, note: Note) -> dict[str, Any]:
    setting = section.settings.get("socket")
    if section.kind != "fcgi-program" or setting is None:
        return {}
    listen = expansion.expand(setting.value, lambda what: note(setting, what))
    listen = listen.replace("unix://", "unix:").removeprefix("tcp://")
    listen = listen.replace("localhost:", "127.0.0.1:").replace("*:", "0.0.0.0:")
    one: dict[str, Any] = {"name": section.name, "listen": listen}
    for key, to in (("socket_owner", "owner"), ("socket_mode", "mode")):
        if key in section.settings:
            one[to] = section.settings[key].value
    if "socket_backlog" in section.settings:
        one["backlog"] = seconds(section.settings["socket_backlog"], note, 1)
    return {"sockets": [one]}


def _start(said: Mapping[str, Setting], note: Note) -> dict[str, Any]:
    setting = said.get("startsecs")
    uptime = seconds(setting, note) if setting is not None else None
    if uptime is None:
        return {}
    startup = {"min_uptime": f"{uptime}s"}
    # Ours ends a start that takes longer than a minute unless it is told otherwise.
    return {"startup": startup if uptime < 60 else {"timeout": f"{2 * uptime}s", **startup}}


def _restart(said: Mapping[str, Setting], note: Note) -> dict[str, Any]:
    setting = said.get("autorestart")
    wanted = setting.value.lower() if setting is not None else "unexpected"
    policy = "on-failure" if wanted == "unexpected" else "always" if is_true(wanted) else "never"
    restart: dict[str, Any] = {"policy": policy}
    retries = said.get("startretries")
    if retries is not None:
        tries = seconds(retries, note)
        if tries is not None:
            uptime = said.get("startsecs")
            each = max(1, int(uptime.value)) if uptime is not None and uptime.value.isdecimal() else 1
            waits = sum(min(60.0, 0.5 * 2.0**number) for number in range(tries))
            within = int(waits) + (tries + 1) * each + 1
            restart["give_up"] = {"starts": tries + 1, "within": f"{within}s"}
    return restart


def _stop(said: Mapping[str, Setting], note: Note) -> dict[str, Any]:
    signal, grace = said.get("stopsignal"), said.get("stopwaitsecs")
    group = "stopasgroup" in said and is_true(said["stopasgroup"].value)
    patience = seconds(grace, note, 1) if grace is not None else None
    known = _preset(said["command"].value) if "command" in said else None
    if known is not None and _agrees(signal, known):
        if grace is None:
            return {"preset": known}
        stages = [
            {"signal": stage.signal, "target": stage.target.value, "grace": f"{stage.grace_seconds:g}s"}
            for stage in PRESETS[known].stages
        ]
        stages[0]["grace"] = f"{patience or 10}s"
        return {"stages": stages}
    name = "SIG" + (signal.value.upper().removeprefix("SIG") if signal is not None else "TERM")
    target = "all" if group else "main"
    return {"stages": [{"signal": name, "target": target, "grace": f"{patience or 10}s"}]}


def _agrees(signal: Setting | None, preset: str) -> bool:
    """Whether the preset's first signal is the one that was asked for, or none was."""
    if signal is None:
        return True
    return "SIG" + signal.value.upper().removeprefix("SIG") == PRESETS[preset].stages[0].signal


def _preset(command: str) -> str | None:
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    for position, word in enumerate(words[:3]):
        name = PurePath(word).name
        if name in _PROGRAMS and (position == 0 or words[position - 1] == "-m" or position == 1):
            return _PROGRAMS[name]
        if name.startswith("php-fpm"):
            return "php-fpm"
    return None


def _logs(said: Mapping[str, Setting], text: Callable[[str], str], note: Note) -> dict[str, Any]:
    logs: dict[str, Any] = {}
    file = said.get("stdout_logfile")
    if file is not None:
        where = text("stdout_logfile")
        if where.upper() in {"AUTO", "NONE", "SYSLOG"} or where.startswith("/dev/"):
            note(file, f"{where} has no equivalent: output goes to files in logs.directory")
        else:
            logs["directory"] = str(PurePath(where).parent)
    size = said.get("stdout_logfile_maxbytes")
    if size is not None and size.value.strip("0"):
        value = size.value.upper()
        logs["max_bytes"] = (
            _SIZES[value[-2:]].join((value[:-2], ""))
            if value[-2:] in _SIZES
            else int(value)
            if value.isdecimal()
            else value
        )
    keep = said.get("stdout_logfile_backups")
    if keep is not None:
        logs["keep"] = seconds(keep, note)
    return {key: value for key, value in logs.items() if value is not None}
