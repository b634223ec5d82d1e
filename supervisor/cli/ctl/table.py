"""The table of `status`: one line for each pool and instance, in columns that people and awk can read.

On a terminal the first column is a coloured sign and narrow screens lose the least important columns;
in a pipe the columns are always the same, an empty cell is "-", and only the last one holds blanks.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from supervisor.cli.ctl.durations import age, left
from supervisor.cli.ctl.notes import SIGNS, STYLES, instance_note, phase_and_goal, pool_note
from supervisor.cli.ctl.screen import Screen
from supervisor.cli.ctl.text import Line, Span, clip, clip_name, pad, width
from supervisor.cli.ctl.view import HostView, InstanceView, PoolView

SHOWN_WHOLE = 8
"""A pool of up to this many instances is shown whole."""
SHOWN_INTERESTING = 12
"""Of a larger pool, at most this many interesting instances are shown."""
REASONS_SHOWN = 3
_NOTE_WANTED = 30
_NOTE_LEAST = 8
_TITLES = ("NAME", "STATE", "READY", "PID", "GEN", "SINCE", "NOTE")
_RIGHT = frozenset({2, 3, 4, 5})
_DROPPED_FIRST = (4, 3, 5)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `cells` are those of the titles."""

    cells: tuple[str, ...]
    sign: str = ""
    style: str = ""
    ready_style: str = ""
    bold: bool = False
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """What is shown: everything, or the named pools and instances; `expanded` shows every instance."""

    names: Collection[str] = field(default_factory=tuple)
    expanded: bool = False

    def shows(self, pool: PoolView) -> bool:
        """Whether the pool's own line is shown."""
        return not self.names or pool.name in self.names

    def picks(self, pool: PoolView) -> Sequence[InstanceView]:
        """The instances that were named one by one."""
        return [one for one in pool.instances if one.name in self.names]


def header(host: HostView, screen: Screen, elapsed: float = 0.0) -> list[Line]:
    """Who it is, whether it is ready, and why not."""
    symbols = screen.symbols
    if host.shutting_down:
        limit = f", {left(host.shutdown - elapsed)} left" if host.shutdown is not None else ""
        verdict = Span(f"{symbols.active} shutting down{limit}", "bold yellow")
    elif host.ready:
        verdict = Span(f"{symbols.good} ready", "bold green")
    else:
        verdict = Span(f"{symbols.bad} not ready", "bold red")
    version = f"pitbossd {host.version}, up {age(host.uptime + elapsed)}"
    goal = "" if host.goal == "up" or host.shutting_down else f"  (goal {host.goal})"
    gap = screen.width - width(host.name) - width(verdict.text) - len(goal) - len(version) - 3
    spans = (
        Span(host.name, "bold"),
        Span("  "),
        verdict,
        Span(goal),
        Span(" " * max(2, gap)),
        Span(version, "dim"),
    )
    lines: list[Line] = [spans]
    if not host.ready and not host.shutting_down:
        shown = host.reasons[:REASONS_SHOWN]
        lines.extend((Span(f"  {reason}"),) for reason in shown)
        if len(host.reasons) > len(shown):
            more = len(host.reasons) - len(shown)
            lines.append((Span(f"  and {more} more reason{'s' if more > 1 else ''}", "dim"),))
    return lines


def status_lines(host: HostView, screen: Screen, selection: Selection, elapsed: float = 0.0) -> list[Line]:
    """The header, an empty line, and the table."""
    rows: list[Row | str] = []
    for pool in host.pools:
        rows.extend(_pool_rows(pool, screen, selection, elapsed))
    lines = header(host, screen, elapsed)
    if rows:
        lines.append(())
        lines.extend(table(rows, screen))
    elif not host.pools:
        lines.extend([(), (Span("  no pools: the manifest declares none", "dim"),)])
    return lines


def _pool_rows(pool: PoolView, screen: Screen, selection: Selection, elapsed: float) -> list[Row | str]:
    if not selection.shows(pool):
        return [instance_row(one, screen, elapsed) for one in selection.picks(pool)]
    shown: Sequence[InstanceView] = pool.instances
    expanded = selection.expanded or pool.name in selection.names
    if len(shown) > SHOWN_WHOLE and not expanded:
        shown = [one for one in pool.instances if _is_interesting(one, pool)][:SHOWN_INTERESTING]
    rows: list[Row | str] = [_pool_row(pool, tells_reason=all(one.at_goal for one in shown))]
    rows.extend(instance_row(one, screen, elapsed, indent=1) for one in shown)
    rest = [one for one in pool.instances if one not in shown] if len(shown) < len(pool.instances) else []
    if rest:
        counts = Counter(one.word for one in rest).most_common()
        what = ", ".join(f"{count} {word}" for word, count in counts)
        more = "and " if len(rest) < len(pool.instances) else ""
        rows.append(f"{screen.symbols.ellipsis} {more}{what}")
    return rows


def _is_interesting(one: InstanceView, pool: PoolView) -> bool:
    return (
        not one.at_goal
        or one.surge
        or one.goal != pool.goal
        or one.phase in {"draining", "stopping", "starting"}
    )


def _pool_row(pool: PoolView, *, tells_reason: bool) -> Row:
    of = pool.wanted if pool.goal == "up" or pool.wanted else len(pool.instances)
    fully = pool.ready >= pool.wanted
    return Row(
        (
            pool.name,
            pool.status,
            "done" if pool.status == "completed" else f"{pool.ready}/{of}",
            "-",
            "-",
            "-",
            pool_note(pool, tells_reason=tells_reason) or "-",
        ),
        sign=SIGNS.get(pool.status, "dot"),
        style=STYLES.get(pool.status, ""),
        ready_style="" if fully or pool.status == "completed" else STYLES.get(pool.status, ""),
        bold=True,
    )


def instance_row(one: InstanceView, screen: Screen, elapsed: float = 0.0, indent: int = 0) -> Row:
    """The line of an instance."""
    return Row(
        (
            one.name,
            phase_and_goal(one, screen.symbols.arrow),
            "yes" if one.ready else "done" if (one.phase, one.goal) == ("stopped", "up") else "no",
            str(one.pid) if one.pid is not None else "-",
            str(one.generation) if one.generation else "-",
            age(one.since + elapsed),
            instance_note(one, elapsed) or "-",
        ),
        sign=SIGNS.get(one.word, "dot"),
        style="yellow" if one.phase == "running" and not one.ready else STYLES.get(one.word, ""),
        ready_style="" if one.ready else "dim" if one.goal != "up" or one.at_goal else "yellow",
        indent=indent,
    )


def table(rows: Sequence[Row | str], screen: Screen) -> list[Line]:
    """The rows under their titles, fitted to the width of the screen. A text as a row spans all columns."""
    pretty = screen.is_terminal
    widths = [len(title) for title in _TITLES]
    for row in rows:
        if isinstance(row, Row):
            for column, cell in enumerate(row.cells):
                indent = 2 * row.indent if column == 0 and pretty else 0
                widths[column] = max(widths[column], width(cell) + indent)
    columns = _fit(widths, screen.width, pretty=pretty)
    lines: list[Line] = [_titles(columns, widths, pretty=pretty)]
    lines.extend(
        _row(row, columns, widths, screen) if isinstance(row, Row) else _text_line(row, pretty=pretty)
        for row in rows
    )
    return lines


def _fit(widths: list[int], room: int, *, pretty: bool) -> list[int]:
    """Choose the columns, and set the width of the name and of the note."""
    columns = list(range(len(_TITLES)))
    room -= 2 if pretty else 0
    note = len(_TITLES) - 1

    def space() -> int:
        return room - sum(widths[column] for column in columns if column != note) - 2 * (len(columns) - 1)

    if pretty:
        widths[0] = min(widths[0], max(12, room * 2 // 5))
        for column in _DROPPED_FIRST:
            if space() >= min(_NOTE_WANTED, widths[note]):
                break
            columns.remove(column)
    # In a pipe a name is somebody's key: the note gives way to it.
    least = _NOTE_LEAST if pretty else 1
    if space() < least:
        widths[0] = max(8, widths[0] + space() - least)
    widths[note] = max(1, space())
    return columns


def _titles(columns: list[int], widths: list[int], *, pretty: bool) -> Line:
    cells = [pad(_TITLES[column], widths[column], right=column in _RIGHT) for column in columns[:-1]]
    return (Span(("  " if pretty else "") + "  ".join([*cells, _TITLES[-1]]), "dim"),)


def _text_line(text: str, *, pretty: bool) -> Line:
    return (Span(("    " if pretty else "") + text, "dim"),)


def _row(row: Row, columns: list[int], widths: list[int], screen: Screen) -> Line:
    pretty = screen.is_terminal
    ellipsis = screen.symbols.ellipsis
    spans: list[Span] = []
    if pretty:
        spans.append(Span(getattr(screen.symbols, row.sign, " ") + " ", row.style))
    for column in columns:
        cell = row.cells[column]
        if column == 0:
            name = ("  " * row.indent if pretty else "") + cell
            spans.append(
                Span(pad(clip_name(name, widths[0], ellipsis), widths[0]), "bold" if row.bold else "")
            )
        elif column == len(_TITLES) - 1:
            spans.append(
                Span(
                    "" if pretty and cell == "-" else clip(cell, widths[column], ellipsis),
                    "" if row.bold else "dim",
                )
            )
        else:
            style = {1: row.style, 2: row.ready_style}.get(column, "")
            blank = pretty and cell == "-"
            spans.append(Span(pad("" if blank else cell, widths[column], right=column in _RIGHT), style))
        spans.append(Span("  "))
    return tuple(spans[:-1])
