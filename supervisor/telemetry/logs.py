"""The daemon's own log: where it goes and which form fits there.

How a line looks is `log_forms`; that writing it never blocks is `log_stream`; what is said about
instances is `move_log`.
"""

import logging
import os
import sys
from enum import StrEnum
from typing import TextIO

from supervisor.telemetry.log_forms import HumanForm, JournalForm, JsonForm
from supervisor.telemetry.log_stream import PatientHandler


class Form(StrEnum):
    """How log lines look. `AUTO`: journal if stderr goes there, human on a terminal, else JSON."""

    AUTO = "auto"
    HUMAN = "human"
    JSON = "json"
    JOURNAL = "journal"


def configure(
    stream: TextIO | None = None, *, level: str | int = logging.INFO, form: Form | str = Form.AUTO
) -> Form:
    """Send everything that is logged in this process to a stream (default: stderr); the form that was taken.

    Raises ValueError for a level or form that does not exist. May be called again: the latest call holds.
    """
    stream = sys.stderr if stream is None else stream
    form = Form(form)
    if form is Form.AUTO:
        form = _fitting(stream)
    handler = _handler(stream)
    handler.setFormatter(_formatter(form, stream))
    root = logging.getLogger()
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for old in tuple(root.handlers):
        if getattr(old, "is_pitboss", False):
            root.removeHandler(old)
            old.close()
    handler.is_pitboss = True  # type: ignore[attr-defined]  # how ours are told from a host program's
    root.addHandler(handler)
    return form


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def _handler(stream: TextIO) -> logging.Handler:
    descriptor = _descriptor(stream)
    return logging.StreamHandler(stream) if descriptor is None else PatientHandler(descriptor)


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


def _formatter(form: Form, stream: TextIO) -> logging.Formatter:
    if form is Form.JSON:
        return JsonForm()
    if form is Form.JOURNAL:
        return JournalForm()
    descriptor = _descriptor(stream)
    # no-color.org: any value but the empty one turns colours off.
    colour = descriptor is not None and os.isatty(descriptor) and not os.environ.get("NO_COLOR")
    return HumanForm(colour=colour)
