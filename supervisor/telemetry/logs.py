"""The daemon's own log: where it goes and which form fits there.

There are two ways in: `logging`, for what is said rarely, and `LogLines.say`, for the line that every
move of an instance has. The machinery of `logging` takes ten times as long as making such a line does.
Both end in one stream, in their order. How a line looks is `log_forms`; that writing it never blocks is
`log_stream`; what is said about instances is `move_log`.
"""

import logging
import os
import sys
import time
from enum import StrEnum
from typing import Protocol, TextIO

from supervisor.telemetry.log_forms import Fields, HumanForm, JournalForm, JsonForm, LineForm
from supervisor.telemetry.log_stream import LineStream


class Form(StrEnum):
    """How log lines look. `AUTO`: journal if stderr goes there, human on a terminal, else JSON."""

    AUTO = "auto"
    HUMAN = "human"
    JSON = "json"
    JOURNAL = "journal"


class Sink(Protocol):
    """Where lines go."""

    def write(self, line: str) -> None:
        """Take a line, without its end."""

    def flush(self) -> None:
        """Let out what was taken."""

    def close(self) -> None:
        """Let out what was taken, for the last time."""


class LogLines:
    """Where the lines of this process go, and how they look there."""

    def __init__(self, form: Form, look: LineForm, sink: Sink) -> None:
        self.form = form
        self._look = look
        self._write = sink.write

    def say(self, level: int, logger: str, event: str, fields: Fields) -> None:
        """Write the line of an event now; whether it is important enough is the caller's to decide."""
        self._write(self._look.line(time.time(), level, logger, event, fields))


class LineHandler(logging.Handler):
    """Writes the records of `logging` behind the lines that were there before, at once.

    They are rare, and often the last that is said before something goes wrong.
    """

    def __init__(self, look: LineForm, sink: Sink) -> None:
        super().__init__()
        self.setFormatter(look)
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; a record that cannot be rendered does not stop who made it."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  # anything may be among its arguments
            self.handleError(record)
            return
        self._sink.write(line)
        self._sink.flush()

    def flush(self) -> None:
        """Write what has gathered; `logging` calls this and `close` when the process ends."""
        self._sink.flush()

    def close(self) -> None:
        """Write what has gathered, for the last time."""
        self._sink.close()
        super().close()


class TextSink:
    """A stream without a descriptor, which never waits: that of a program that keeps the text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Take a line, without its end."""
        self._stream.write(line + "\n")

    def flush(self) -> None:
        """The stream is as its owner left it."""

    def close(self) -> None:
        """The stream is its owner's."""


def configure(
    stream: TextIO | None = None, *, level: str | int = logging.INFO, form: Form | str = Form.AUTO
) -> LogLines:
    """Send everything that is logged in this process to a stream (default: stderr).

    Raises ValueError for a level or form that does not exist. May be called again: the latest call holds.
    """
    stream = sys.stderr if stream is None else stream
    form = Form(form)
    if form is Form.AUTO:
        form = _fitting(stream)
    look = _look(form, stream)
    sink = _sink(stream, look)
    root = logging.getLogger()
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for old in tuple(root.handlers):
        if isinstance(old, LineHandler):
            root.removeHandler(old)
            old.close()
    root.addHandler(LineHandler(look, sink))
    return LogLines(form, look, sink)


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _sink(stream: TextIO, look: LineForm) -> Sink:
    descriptor = _descriptor(stream)
    if descriptor is None:
        return TextSink(stream)

    def note(dropped: int) -> str:
        return look.line(time.time(), logging.WARNING, __name__, "log-lines-dropped", {"count": dropped})

    return LineStream(descriptor, note)


def goes_to_journal(stream: TextIO) -> bool:
    """Whether what is written to this stream is read by journald, which takes `<N>` for a priority."""
    descriptor = _descriptor(stream)
    if descriptor is None:
        return False
    status = os.fstat(descriptor)
    # systemd.exec(5): equal numbers mean that this very stream goes to the journal.
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _fitting(stream: TextIO) -> Form:
    if goes_to_journal(stream):
        return Form.JOURNAL
    descriptor = _descriptor(stream)
    return Form.HUMAN if descriptor is not None and os.isatty(descriptor) else Form.JSON


def _look(form: Form, stream: TextIO) -> LineForm:
    if form is Form.JSON:
        return JsonForm()
    if form is Form.JOURNAL:
        return JournalForm()
    descriptor = _descriptor(stream)
    # no-color.org: any value but the empty one turns colours off.
    colour = descriptor is not None and os.isatty(descriptor) and not os.environ.get("NO_COLOR")
    return HumanForm(colour=colour)
