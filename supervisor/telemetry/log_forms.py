"""The shapes of a log line: for a terminal, for a machine, for the journal.

Decides how a record looks, never what is recorded. A record may carry an `event` (one word) and
`fields`; one without is a plain sentence. Text from workers and clients reaches this module as it
came, and leaves it on one line and without anything a terminal would obey.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

TEXT_LIMIT = 400
"""Characters of one value that are shown; the rest is counted."""

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
    if text and text.isprintable() and len(text) <= TEXT_LIMIT and not set(text) & set(' "=\\'):
        return text
    return '"' + escape(text.replace("\\", "\\\\").replace('"', '\\"'), TEXT_LIMIT * 2) + '"'


def pairs(fields: Mapping[str, object]) -> str:
    """`key=value` for each field that has one, in their order."""
    return " ".join(f"{key}={quoted(value)}" for key, value in fields.items() if value not in (None, ""))


def span(seconds: float) -> str:
    """A duration for people: `0.53 s`, `25 s`, `12 min`, `3.5 h`, `9 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"


def machine_text(event: str, fields: Mapping[str, object]) -> str:
    """The line that a filter reads: the event first, then its fields."""
    return f"{event} {pairs(fields)}"


def syslog_priority(level: int) -> int:
    """The priority of sd-daemon(3) for a level: 7 is debug, 6 info, 4 warning, 3 error, 2 critical."""
    return next((priority for least, priority in _SYSLOG if level >= least), 7)


def _event(record: logging.LogRecord) -> tuple[str | None, Mapping[str, Any]]:
    return getattr(record, "event", None), getattr(record, "fields", {})


class JsonForm(logging.Formatter):
    """One object per line: time, level, logger, then event and fields, or message."""

    def format(self, record: logging.LogRecord) -> str:
        """The object."""
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        body: dict[str, object] = {
            "time": f"{second}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        event, fields = _event(record)
        if event is None:
            body["message"] = record.getMessage()
        else:
            body["event"] = event
            body |= {key: _rounded(value) for key, value in fields.items() if value not in (None, "")}
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return json.dumps(body, default=str, separators=(",", ":"))


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, str) and len(value) > TEXT_LIMIT:
        return f"{value[:TEXT_LIMIT]}... ({len(value) - TEXT_LIMIT} more)"
    return value


class JournalForm(logging.Formatter):
    """For journald: its own time stamps, our priority as `<N>` before each line (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a prefixed one for each of a traceback."""
        event, fields = _event(record)
        text = escape(record.getMessage(), 4000) if event is None else machine_text(event, fields)
        lines = [text]
        if record.exc_info:
            lines.extend(escape(line) for line in self.formatException(record.exc_info).splitlines())
        prefix = f"<{syslog_priority(record.levelno)}>"
        return "\n".join(prefix + line for line in lines)


class HumanForm(logging.Formatter):
    """For people: the time of day, who, what, in columns; coloured on a terminal."""

    _COLOURS = ((logging.ERROR, "31"), (logging.WARNING, "33"))

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line, and a traceback below it."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created)) + f".{int(record.msecs):03d}"
        event, fields = _event(record)
        if event is None:
            text = escape(record.getMessage(), 4000)
        else:
            who = str(fields.get("instance") or fields.get("target") or "")
            text = escape(f"{escape(who):<18} {_SENTENCES.get(event, _other)(event, fields)}", 4000)
        text = self._paint(text, next((code for least, code in self._COLOURS if record.levelno >= least), ""))
        lines = [f"{self._paint(clock, '2')}  {text}"]
        if record.exc_info:
            lines.extend("    " + escape(line) for line in self.formatException(record.exc_info).splitlines())
        return "\n".join(lines)

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and code else text


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _window(seconds: Any) -> str:
    return "" if seconds is None else f"{span(seconds)} at most"


def _asked(fields: Mapping[str, Any]) -> str:
    by, request = fields.get("principal") or "", fields.get("request_id") or ""
    return _join(f"by {escape(by)}" if by else "", f"request {escape(request)}" if request else "")


def _moved(_: str, fields: Mapping[str, Any]) -> str:
    arrow = f"{fields['from']} → {fields['to']}"
    why = _join(
        str(fields["cause"]),
        escape(str(fields.get("detail") or "")),
        str(fields.get("stage") or ""),
        _window(fields.get("deadline_seconds")),
        _asked(fields),
    )
    return f"{arrow:<22} {why}"


def _climbed(_: str, fields: Mapping[str, Any]) -> str:
    arrow = f"{fields['from']} → {fields.get('to') or 'over'}"
    why = _join(
        f"{fields['outcome']} after {span(fields['seconds'])}",
        _window(fields.get("window_seconds")),
        _asked(fields),
    )
    return f"{arrow:<22} {why}"


def _unready(_: str, fields: Mapping[str, Any]) -> str:
    return f"{'not ready':<22} {escape(str(fields['reason']))}"


def _ended(_: str, fields: Mapping[str, Any]) -> str:
    rung = f"by {fields['stage']}" if fields.get("stage") else ""
    left = f"{fields['leftovers']} processes left behind" if fields.get("leftovers") else ""
    last = f"last line: {escape(fields['last_line'])}" if fields.get("last_line") else ""
    up = f"up {span(fields['uptime_seconds'])}"
    return (
        f"{'ended ' + str(fields['class']):<22} {_join(escape(str(fields['detail'])), rung, up, left, last)}"
    )


def _stop_ended(_: str, fields: Mapping[str, Any]) -> str:
    return f"{'stop ended ' + str(fields['outcome']):<22} after {span(fields['seconds'])}"


def _extended(_: str, fields: Mapping[str, Any]) -> str:
    return f"{'granted more time':<22} {span(fields['seconds'])}"


def _goal(_: str, fields: Mapping[str, Any]) -> str:
    return f"{'goal is ' + str(fields['goal']):<22} {_asked(fields)}".rstrip()


def _operation(_: str, fields: Mapping[str, Any]) -> str:
    what = f"{fields['kind']} {fields.get('outcome') or 'begins'}"
    seconds = fields.get("seconds")
    took = "" if seconds is None else f"after {span(seconds)}"
    message = escape(str(fields.get("message") or ""))
    return f"{what:<22} {_join(took, message, 'operation ' + escape(str(fields['id'])), _asked(fields))}"


def _other(event: str, fields: Mapping[str, Any]) -> str:
    return f"{event:<22} {pairs({key: value for key, value in fields.items() if key != 'instance'})}".rstrip()


_SENTENCES: Mapping[str, Callable[[str, Mapping[str, Any]], str]] = {
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
