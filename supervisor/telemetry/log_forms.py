"""The shapes of a log line: for a terminal, for a machine, for the journal.

Decides how a line looks, never what is logged. A line is an event (one word) with its fields, or the
plain sentence of a record of `logging`. Text from workers and clients reaches this module as it
came, and leaves it on one line and without anything a terminal would obey.
"""

import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from json.encoder import JSONEncoder
from json.encoder import encode_basestring_ascii as _json_string
from math import isfinite
from typing import Any

TEXT_LIMIT = 400
"""Characters of one value that are shown; the rest is counted."""

Fields = Mapping[str, Any]
"""What an event says, by name and in the order in which it is shown; None and "" are no value."""

_needs_quotes = re.compile(r'[ "=\\]').search
_json = JSONEncoder(default=str).encode
_SYSLOG = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def escape(text: str, limit: int = TEXT_LIMIT) -> str:
    """The text on one line: whatever is not printable becomes an escape, and too much is cut."""
    if len(text) > limit:
        text = f"{text[:limit]}... ({len(text) - limit} more)"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _code(one) for one in text)


def _code(character: str) -> str:
    # unicode_escape leaves nothing unprintable, but also escapes letters; hence one character at a time.
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def quoted(value: object) -> str:
    """A value of `key=value`: bare where that is unambiguous, else in double quotes."""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    text = str(value)
    if text and text.isprintable() and len(text) <= TEXT_LIMIT and not _needs_quotes(text):
        return text
    return '"' + escape(text.replace("\\", "\\\\").replace('"', '\\"'), TEXT_LIMIT * 2) + '"'


def pairs(fields: Fields) -> str:
    """`key=value` for each field that has one, in their order."""
    return " ".join(f"{key}={quoted(value)}" for key, value in fields.items() if value not in (None, ""))


def span(seconds: float) -> str:
    """A duration for people: `0.53 s`, `25 s`, `12 min`, `3.5 h`, `9 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"


def syslog_priority(level: int) -> int:
    """The priority of sd-daemon(3) for a level: 7 is debug, 6 info, 4 warning, 3 error, 2 critical."""
    return next((priority for least, priority in _SYSLOG if level >= least), 7)


class _Clock:
    """A moment as text, to the millisecond; all but that part is made once a second."""

    def __init__(self, pattern: str, broken_down: Callable[[float], time.struct_time]) -> None:
        self._pattern = pattern
        self._broken_down = broken_down
        self._second = -1
        self._text = ""

    def __call__(self, moment: float) -> str:
        second = int(moment)
        if second != self._second:
            self._text = time.strftime(self._pattern, self._broken_down(second))
            self._second = second
        return f"{self._text}.{int((moment - second) * 1000):03d}"


class LineForm(logging.Formatter, ABC):
    """How lines look: `format` for the plain sentence of a record, `line` for an event with its fields."""

    @abstractmethod
    def line(self, moment: float, level: int, logger: str, event: str, fields: Fields) -> str:
        """The line of an event, at `moment` seconds since the epoch; fields without a value are left out."""


class JsonForm(LineForm):
    """One object per line: time, level, logger, then event and fields, or message."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = _Clock("%Y-%m-%dT%H:%M:%S", time.gmtime)

    def line(self, moment: float, level: int, logger: str, event: str, fields: Fields) -> str:
        """The object."""
        parts = [f'{{"time":"{self._clock(moment)}Z",{_event_head(level, logger, event)}']
        for key, value in fields.items():
            # By hand, because an encoder of the library takes longer than everything else about a line.
            if type(value) is str:
                if value:
                    cut = value if len(value) <= TEXT_LIMIT else _cut(value)
                    parts.append(f'"{key}":{_json_string(cut)}')
            elif type(value) is int or (type(value) is float and isfinite(value)):
                parts.append(f'"{key}":{round(value, 3)!r}')
            elif value is not None:
                parts.append(f'"{key}":{_json(value)}')
        return ",".join(parts) + "}"

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        head = _head(record.levelno, record.name, "message", record.getMessage())
        text = f'{{"time":"{self._clock(record.created)}Z",{head}'
        if record.exc_info:
            text += f',"exception":{_json_string(self.formatException(record.exc_info))}'
        return text + "}"


def _head(level: int, logger: str, key: str, text: str) -> str:
    name = logging.getLevelName(level).lower()
    return f'"level":"{name}","logger":{_json_string(logger)},"{key}":{_json_string(text)}'


# There are a few events, and hundreds of lines of each when a fleet is stopped.
@lru_cache(maxsize=64)
def _event_head(level: int, logger: str, event: str) -> str:
    return _head(level, logger, "event", event)


def _cut(text: str) -> str:
    return f"{text[:TEXT_LIMIT]}... ({len(text) - TEXT_LIMIT} more)"


class JournalForm(LineForm):
    """For journald: its own time stamps, our priority as `<N>` before each line (sd-daemon(3))."""

    def line(self, _moment: float, level: int, _logger: str, event: str, fields: Fields) -> str:
        """The event first, then its fields: what a filter reads."""
        return f"<{syslog_priority(level)}>{event} {pairs(fields)}"

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a prefixed one for each of a traceback."""
        lines = [escape(record.getMessage(), 4000)]
        if record.exc_info:
            lines.extend(escape(line) for line in self.formatException(record.exc_info).splitlines())
        prefix = f"<{syslog_priority(record.levelno)}>"
        return "\n".join(prefix + line for line in lines)


class HumanForm(LineForm):
    """For people: the time of day, who, what, in columns; coloured on a terminal."""

    _COLOURS = ((logging.ERROR, "31"), (logging.WARNING, "33"))

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._clock = _Clock("%H:%M:%S", time.localtime)
        self._colour = colour

    def line(self, moment: float, level: int, _logger: str, event: str, fields: Fields) -> str:
        """Who, and a sentence on what happened."""
        who = str(fields.get("instance") or fields.get("target") or "")
        sentence = _SENTENCES.get(event, _other)(event, fields)
        return self._columns(moment, level, f"{escape(who):<18} {sentence}")

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback below it."""
        lines = [self._columns(record.created, record.levelno, record.getMessage())]
        if record.exc_info:
            lines.extend("    " + escape(line) for line in self.formatException(record.exc_info).splitlines())
        return "\n".join(lines)

    def _columns(self, moment: float, level: int, text: str) -> str:
        colour = next((code for least, code in self._COLOURS if level >= least), "") if self._colour else ""
        clock = self._clock(moment)
        return f"{self._paint(clock, '2')}  {self._paint(escape(text, 4000), colour)}"

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and code else text


def _join(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def _window(seconds: Any) -> str:
    return "" if seconds is None else f"{span(seconds)} at most"


def _asked(fields: Fields) -> str:
    by, request = fields.get("principal") or "", fields.get("request_id") or ""
    return _join(f"by {escape(by)}" if by else "", f"request {escape(request)}" if request else "")


def _moved(_: str, fields: Fields) -> str:
    arrow = f"{fields['from']} → {fields['to']}"
    why = _join(
        str(fields["cause"]),
        escape(str(fields.get("detail") or "")),
        str(fields.get("stage") or ""),
        _window(fields.get("deadline_seconds")),
        _asked(fields),
    )
    return f"{arrow:<22} {why}"


def _climbed(_: str, fields: Fields) -> str:
    arrow = f"{fields['from']} → {fields.get('to') or 'over'}"
    why = _join(
        f"{fields['outcome']} after {span(fields['seconds'])}",
        _window(fields.get("window_seconds")),
        _asked(fields),
    )
    return f"{arrow:<22} {why}"


def _unready(_: str, fields: Fields) -> str:
    return f"{'not ready':<22} {escape(str(fields['reason']))}"


def _ended(_: str, fields: Fields) -> str:
    rung = f"by {fields['stage']}" if fields.get("stage") else ""
    left = f"{fields['leftovers']} processes left behind" if fields.get("leftovers") else ""
    last = f"last line: {escape(fields['last_line'])}" if fields.get("last_line") else ""
    up = f"up {span(fields['uptime_seconds'])}"
    return (
        f"{'ended ' + str(fields['class']):<22} {_join(escape(str(fields['detail'])), rung, up, left, last)}"
    )


def _stop_ended(_: str, fields: Fields) -> str:
    return f"{'stop ended ' + str(fields['outcome']):<22} after {span(fields['seconds'])}"


def _extended(_: str, fields: Fields) -> str:
    return f"{'granted more time':<22} {span(fields['seconds'])}"


def _goal(_: str, fields: Fields) -> str:
    return f"{'goal is ' + str(fields['goal']):<22} {_asked(fields)}".rstrip()


def _operation(_: str, fields: Fields) -> str:
    what = f"{fields['kind']} {fields.get('outcome') or 'begins'}"
    seconds = fields.get("seconds")
    took = "" if seconds is None else f"after {span(seconds)}"
    message = escape(str(fields.get("message") or ""))
    return f"{what:<22} {_join(took, message, 'operation ' + escape(str(fields['id'])), _asked(fields))}"


def _other(event: str, fields: Fields) -> str:
    return f"{event:<22} {pairs({key: value for key, value in fields.items() if key != 'instance'})}".rstrip()


_SENTENCES: Mapping[str, Callable[[str, Fields], str]] = {
    "moved": _moved,
    "climbed": _climbed,
    "unready": _unready,
    "ended": _ended,
    "stop-ended": _stop_ended,
    "extended": _extended,
    "goal-changed": _goal,
    "operation-started": _operation,
    "operation-ended": _operation,
}
