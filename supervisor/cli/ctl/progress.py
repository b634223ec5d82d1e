"""The moving display of a wait: each instance with its rung, the time left there and what it waits for.

Decides what a frame looks like. The bars and countdowns move between two answers of the daemon by
themselves: the time left was told, and only the age of the answer changes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from supervisor.cli.ctl.durations import age, left
from supervisor.cli.ctl.follow import Picture
from supervisor.cli.ctl.notes import SIGNS, STYLES, exit_sentence
from supervisor.cli.ctl.screen import Screen
from supervisor.cli.ctl.text import Line, Span, clip_name, pad, width
from supervisor.cli.ctl.view import InstanceView, OperationView, StepView

_BAR_CELLS = 12
_HEAD_BAR_CELLS = 20
_SPINS_PER_SECOND = 5
_ORDER = ("failed", "aborted", "running", "waiting", "done")


@dataclass(frozen=True, slots=True)
class Track:
    """One line of a frame: an instance on its way. `rank` sorts it when there is no room for all."""

    name: str
    rank: str
    sign: str
    word: str
    style: str
    note: str
    left: float | None = None
    total: float = 0.0


def operation_frame(picture: Picture, screen: Screen, operations: Sequence[str]) -> list[Line]:
    """A frame for some operations: a head with the progress of each, and its instances."""
    lines: list[Line] = []
    room = max(3, (screen.height - 3) // max(1, len(operations)) - 3)
    for name in operations:
        operation = picture.operations.get(name)
        if operation is None:
            continue
        lines.append(_head(operation, picture, screen))
        if not operation.final:
            tracks = [_track(step, picture) for step in operation.steps]
            lines.extend([(), *track_lines(tracks, screen, room), ()])
    lines.extend(_foot(picture, screen, "the operation"))
    return lines


def waiting_frame(
    picture: Picture, screen: Screen, title: str, instances: Sequence[InstanceView], done: int, total: int
) -> list[Line]:
    """A frame for `wait`: how many are there, and those that are not."""
    lines: list[Line] = [_title(title, done, total, picture, screen, "")]
    tracks = [_moving(one, picture.elapsed) for one in instances]
    lines.extend([(), *track_lines(tracks, screen, max(3, screen.height - 6)), ()])
    lines.extend(_foot(picture, screen, "nothing but the wait"))
    return lines


def _head(operation: OperationView, picture: Picture, screen: Screen) -> Line:
    title = f"{operation.kind} {operation.target}"
    state = operation.state if operation.state in {"paused", "pending"} else ""
    if operation.final:
        good = operation.succeeded
        sign = screen.symbols.good if good else screen.symbols.bad
        style = "green" if good else "red"
        return (Span(f"{sign} ", style), Span(title, "bold"), Span(f"  {operation.state}", style))
    return _title(title, operation.done, operation.total, picture, screen, state)


def _title(title: str, done: int, total: int, picture: Picture, screen: Screen, state: str) -> Line:
    symbols = screen.symbols
    spin = symbols.spinner[int(picture.waited * _SPINS_PER_SECOND) % len(symbols.spinner)]
    bar = _bar(done / total if total else 0.0, _HEAD_BAR_CELLS, screen, "green")
    text = f"  {done}/{total} done  {age(picture.waited)}"
    return (
        Span(f"{spin} ", "cyan"),
        Span(title, "bold"),
        Span("  "),
        *bar,
        Span(text),
        Span(f"  {state}" if state else "", "yellow"),
    )


def _foot(picture: Picture, screen: Screen, what: str) -> list[Line]:
    if picture.lost is not None:
        return [(Span(f"{screen.symbols.warn} pitbossd does not answer; trying again", "yellow"),)]
    return [
        (
            Span(
                f"Ctrl-C ends {what}"
                if what.startswith("nothing")
                else f"Ctrl-C stops watching; {what} goes on",
                "dim",
            ),
        )
    ]


def _track(step: StepView, picture: Picture) -> Track:
    instance = picture.host.instances().get(step.instance) if picture.host is not None else None
    if step.state == "done":
        word = instance.word if instance is not None else "done"
        return Track(step.instance, "done", "good", word, "green", step.detail if step.detail != word else "")
    if step.state == "failed":
        return Track(step.instance, "failed", "bad", "failed", "red", step.detail)
    if step.state == "aborted":
        return Track(step.instance, "aborted", "warn", "aborted", "yellow", step.detail)
    if instance is None or (step.state == "waiting" and instance.ready):
        return Track(step.instance, "waiting", "idle", "waiting", "dim", step.detail)
    track = _moving(instance, picture.elapsed)
    return replace(track, note=step.detail) if instance.ready and step.detail and not track.note else track


def _moving(instance: InstanceView, elapsed: float) -> Track:
    """An instance that is not where it is wanted."""
    word = instance.stage or instance.word
    total = 0.0
    remaining: float | None = None
    if instance.deadline is not None:
        since = (
            instance.stage_since if instance.stage and instance.stage_since is not None else instance.since
        )
        total = instance.deadline + since
        remaining = max(0.0, instance.deadline - elapsed)
    style = STYLES.get(instance.word, "")
    return Track(
        instance.name,
        "running",
        SIGNS.get(instance.word, "dot"),
        word,
        "yellow" if instance.phase == "running" else style,
        _note(instance, elapsed),
        remaining,
        total,
    )


def _note(instance: InstanceView, elapsed: float) -> str:
    parts: list[str] = ["surge"] if instance.surge and not instance.ready else []
    if instance.phase == "running" and not instance.ready:
        parts.append(f"not ready: {instance.unready_reason}" if instance.unready_reason else "not ready")
    elif instance.phase in {"backoff", "failed", "stuck"}:
        parts.append(
            exit_sentence(instance.last_exit, elapsed) if instance.last_exit else instance.waiting_for
        )
    elif instance.waiting_for:
        parts.append(f"waiting for {instance.waiting_for}")
    elif instance.unready_reason:
        parts.append(instance.unready_reason)
    if instance.in_flight is not None and "in flight" not in instance.waiting_for:
        parts.append(f"{instance.in_flight} in flight")
    if instance.status_text:
        parts.append(f'"{instance.status_text}"')
    return ", ".join(part for part in parts if part)


def track_lines(tracks: Sequence[Track], screen: Screen, room: int) -> list[Line]:
    """The lines of these instances in aligned columns; those that tell the most if not all have room."""
    shown = list(tracks)
    rest: list[Track] = []
    if len(tracks) > room:
        ranked = sorted(tracks, key=lambda track: _ORDER.index(track.rank))
        shown, rest = ranked[: room - 1], ranked[room - 1 :]
    names = min(max((width(track.name) for track in shown), default=0), max(10, screen.width // 3))
    words = max((width(track.word) for track in shown), default=0)
    timed = any(track.left is not None for track in shown)
    bar = _BAR_CELLS if timed and screen.width >= 66 else 0
    lines: list[Line] = [_track_line(track, screen, names, words, bar if timed else None) for track in shown]
    if rest:
        counts = Counter(track.rank if track.rank != "running" else track.word for track in rest)
        what = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        lines.append((Span(f"  {screen.symbols.ellipsis} {len(rest)} more: {what}", "dim"),))
    return lines


def _track_line(track: Track, screen: Screen, names: int, words: int, bar: int | None) -> Line:
    spans = [
        Span(f"  {getattr(screen.symbols, track.sign)} ", track.style),
        Span(pad(clip_name(track.name, names, screen.symbols.ellipsis), names)),
        Span("  " + pad(track.word, words), track.style),
    ]
    if bar is not None:
        if bar:
            spans.append(Span("  "))
            if track.left is None:
                spans.append(Span(" " * bar))
            else:
                spans.extend(
                    _bar(track.left / track.total if track.total else 0.0, bar, screen, _heat(track))
                )
        spans.append(Span("  " + pad("" if track.left is None else left(track.left), 6, right=True)))
    spans.append(
        Span(f"  {track.note}" if track.note else "", "dim" if track.rank in {"done", "waiting"} else "")
    )
    return tuple(spans)


def _heat(track: Track) -> str:
    share = (track.left or 0.0) / track.total if track.total else 0.0
    return "red" if share < 0.2 else "yellow" if share < 0.5 else "cyan"


def _bar(share: float, cells: int, screen: Screen, style: str) -> list[Span]:
    """A bar that is `share` full, in half cells."""
    halves = round(min(1.0, max(0.0, share)) * cells * 2)
    if halves == 0 and share > 0:
        halves = 1
    full, half = divmod(halves, 2)
    symbols = screen.symbols
    filled = symbols.bar * full + (symbols.bar_half if half else "")
    return [Span(filled, style), Span(symbols.track * (cells - width(filled)), "dim")]
