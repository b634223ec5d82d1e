"""The page of bounds: what of each input is taken, and what happens beyond, from the constants in force."""

from collections.abc import Callable, Iterator

from supervisor.control import acceptor, protocol, reads, replays, waiting
from supervisor.manifest import (
    addresses,
    draft,
    envfiles,
    fields,
    host,
    merge,
    model,
    problems,
    templates,
    text,
)
from supervisor.runtime import checks, exec_check, http_check, log_files, log_lines, notify, notify_protocol
from supervisor.store import database, journal

Row = tuple[str, str, str]

_HEAD = """\
# Every bound there is

Whatever a worker, a client or a file says is taken up to a bound, so that nobody can fill the memory of the
daemon, hold its loop, or take what belongs to others. This page is generated from the constants in force. How
much a *worker* may use (memory, processes, files) is its pool's `limits` in the
[manifest](../reference/manifest.md).
"""

_TAIL = """\
## When the machine runs out

| of what | what the daemon does |
|---|---|
| descriptors, memory, processes | A start fails as `spawn-error`, with the reason, and is tried again after its backoff. A check that cannot be made counts for nobody: who lives is left alone, who was ready stays ready (`pitboss_checks_not_asked_total`). Clients wait; on the unix socket one descriptor is held back, so that one at a time is served. |
| disk for logs | What cannot be written is dropped and counted (`pitboss_log_dropped_total`); the worker never waits; the file says how much is missing. |
| disk for the journal | Wishes are carried out, and their answer has a `warning` (`pitboss_journal_failures_total`). What could not be written is tried again every 5 s. |
| a disk that turned read-only | As a full one. Files that cannot be written are closed, so that logs can be unmounted, checked and mounted again; only the lock in the state directory stays open. |
| time | Windows and periods are measured by the monotonic clock, so that a stepped wall clock changes nothing. A loop that came more than {late:g} s late to a deadline says so and hears what had arrived before it acts on it. |
"""  # noqa: E501  a row of a table is one line


def _size(count: int) -> str:
    return log_files.size_text(count)


def _notify() -> Iterator[Row]:
    told = notify_protocol
    yield "a datagram", _size(told.MAX_PAYLOAD_BYTES), "dropped and counted, as is one from a stranger"
    yield (
        "datagrams read before anything else gets its turn",
        str(notify.DATAGRAMS_PER_TURN * notify.SOCKETS_PER_TURN),
        "the rest waits in the kernel, which makes a flooding worker wait",
    )
    yield (
        "`STATUS`",
        f"{told.MAX_STATUS_CHARACTERS} characters",
        "cut; what a terminal would obey is taken out",
    )
    yield "a count (`X_PITBOSS_INFLIGHT` and the like)", f"{told.MAX_COUNT:,}", "that line is ignored"
    yield (
        "`X_PITBOSS_TASK_SECONDS` in one datagram",
        f"{told.MAX_TASK_SECONDS_ENTRIES} values",
        "that line is ignored",
    )
    yield (
        "`EXTEND_TIMEOUT_USEC`",
        f"{told.MAX_INTERVAL_SECONDS:g} s",
        "taken as that much; the pool's own ceiling comes first",
    )
    yield "`WATCHDOG_USEC`", f"{told.MAX_INTERVAL_SECONDS:g} s", "that line is ignored"
    yield "barriers of an instance that wait at a time", str(notify.MAX_BARRIERS_HELD), "refused"


def _output() -> Iterator[Row]:
    lines = log_lines
    yield "a line kept in one piece", _size(lines.LONGEST_LINE), "goes on in the next file or record"
    yield "output of an instance kept in memory", _size(lines.TAIL_BYTES), "the oldest is forgotten"
    yield "lines of it that are shown", f"{lines.TAIL_LINES}, each {_size(lines.TAIL_LINE_BYTES)}", "cut"
    yield "log files open at a time", str(log_files.OPEN_FILES), "the one written least recently is closed"


def _checks() -> Iterator[Row]:
    yield "an answer to an HTTP check", _size(http_check.MAX_RESPONSE_BYTES), "not read any further"
    yield "output of a check's command", _size(exec_check.KEPT_BYTES), "the end is kept"
    yield "a reason", f"{checks.MAX_REASON_CHARACTERS} characters", "cut"
    yield "checks of one kind and instance at a time", "1", "no further one is asked"


def _http() -> Iterator[Row]:
    limits = protocol.Limits()
    yield "request line and headers", _size(limits.head_bytes), "`headers-too-large`, closed"
    yield "body", _size(limits.body_bytes), "`too-large`, closed"
    yield "time for a request to arrive", f"{limits.arrival_seconds:g} s", "`timeout`, closed"
    yield "time between requests of a connection", f"{limits.idle_seconds:g} s", "closed"
    yield "time for a client to read an answer", f"{limits.stall_seconds:g} s", "closed"
    beyond = "whoever keeps the daemon waiting longest makes way; closed at once where nobody does"
    yield "connections of a listener", str(limits.connections), beyond
    yield "connections accepted in one turn", str(acceptor.ACCEPTS_PER_TURN), "the rest waits in the kernel"
    yield "requests that wait for a change", str(waiting.PLACES), "answered at once"
    yield "operations listed", str(reads.LISTED_OPERATIONS), "older ones by their id"
    yield "idempotency keys remembered", str(replays.KEPT_KEYS), "the oldest is forgotten"


def _manifest() -> Iterator[Row]:
    yield "a file", _size(text.FILE_BYTES), "refused, as is everything below"
    yield "files read through `include`", str(merge.MOST_FILES), ""
    yield "nesting", f"{text.DEPTH} levels", ""
    yield "pools", str(draft.MOST_POOLS), ""
    yield "instances of a pool, and of the host", f"{model.MOST_INSTANCES}, {host.MOST_INSTANCES}", ""
    yield "sockets of a pool", str(model.MOST_SOCKETS), ""
    yield "a text", _size(fields.LONGEST_TEXT_BYTES), ""
    yield "an address", f"{addresses.LONGEST_ADDRESS} characters", ""
    yield (
        "a `{{ }}`, and how many of them in a text",
        (f"{templates.LONGEST_EXPRESSION} characters, {templates.MOST_EXPRESSIONS}"),
        "",
    )
    yield "variables of an environment file", f"{envfiles.MOST_VARIABLES:,}", ""
    yield "problems reported", f"{problems.PROBLEMS_KEPT:,}", "the rest is only counted"


def _journal() -> Iterator[Row]:
    yield "operations kept", f"{database.KEPT_OPERATIONS:,}", "the oldest is forgotten"
    yield (
        "operations that wait for a disk",
        f"{journal.QUEUED_OPERATIONS:,}",
        "the oldest is lost; goals never are",
    )
    yield (
        "steps kept of an operation",
        str(journal.KEPT_STEPS),
        "those that did not simply succeed come first",
    )


def page() -> str:
    """The page."""
    parts = [_HEAD]
    for title, rows in (
        ("What workers say", _notify()),
        ("What workers write", _output()),
        ("What checks answer", _checks()),
        ("What clients send", _http()),
        ("What a manifest says", _manifest()),
        ("What is remembered", _journal()),
    ):
        parts += [f"## {title}\n", "| what | bound | beyond it |", "|---|---|---|"]
        parts += [f"| {what} | {bound} | {beyond} |" for what, bound, beyond in rows]
        parts.append("")
    parts.append(_TAIL.format(late=checks.LATE_SECONDS))
    return "\n".join(parts)


OUTPUTS: dict[str, Callable[[], str]] = {"docs/explanation/limits.md": page}
