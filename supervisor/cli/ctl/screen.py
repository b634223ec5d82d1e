"""Where output goes: how wide, in which alphabet, with or without colour, moving or still.

On a terminal lines are coloured and a display may move; in a pipe the same lines are plain, and what
happens is told line by line. `NO_COLOR` (no-color.org), `TERM=dumb` and `--no-color` are respected.
Where the encoding is not UTF-8 every symbol has an ASCII form. No line is ever wider than the screen.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from supervisor.cli.ctl.text import Line, Span, clip_line, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

NARROWEST = 20
"""Cells below which nothing readable fits; a narrower terminal wraps."""


@dataclass(frozen=True, slots=True)
class Symbols:
    """The few signs the output uses, each one cell wide in both alphabets but for the ellipsis."""

    good: str = "✓"
    bad: str = "✗"
    active: str = "●"
    idle: str = "○"
    warn: str = "▲"
    dot: str = "·"
    arrow: str = "→"
    ellipsis: str = "…"
    bar: str = "━"
    bar_half: str = "╸"
    track: str = "─"
    spinner: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


ASCII = Symbols("+", "x", "*", "-", "!", "-", ">", "...", "=", "-", ".", "|/-\\")


class Screen:
    """Standard output (or standard error) as the ctl sees it."""

    def __init__(self, stream: TextIO | None = None, *, colour: bool = True) -> None:
        self.stream = stream or sys.stdout
        encoding = (
            (getattr(self.stream, "encoding", None) or "ascii").lower().replace("-", "").replace("_", "")
        )
        self.encoding = getattr(self.stream, "encoding", None) or "ascii"
        self.symbols = Symbols() if encoding in {"utf8", "utf16", "utf32", "utf8sig"} else ASCII
        dumb = os.environ.get("TERM", "") == "dumb"
        self.is_terminal = self.stream.isatty() and not dumb
        self.has_colour = self.is_terminal and colour and not os.environ.get("NO_COLOR")
        self._console: Console | None = None

    @property
    def width(self) -> int:
        """Cells in a line now; `COLUMNS` overrides, and a pipe has 80."""
        return max(NARROWEST, shutil.get_terminal_size((80, 24)).columns)

    @property
    def height(self) -> int:
        """Lines of the screen now."""
        return max(8, shutil.get_terminal_size((80, 24)).lines)

    def say(self, lines: Iterable[Line]) -> None:
        """Print sentences: a terminal wraps them, and in a pipe they are never cut."""
        self._print(list(lines))

    def lines(self, lines: Iterable[Line]) -> None:
        """Print lines of a table, each cut to the width."""
        self._print([clip_line(line, self.width, self.symbols.ellipsis) for line in lines])

    def _print(self, cut: list[Line]) -> None:
        if not cut:
            return
        if self.is_terminal:
            self.console.print(self.rich(cut), soft_wrap=True, end="")
            return
        text = "".join(plain(line) + "\n" for line in cut)
        self.stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
        self.stream.flush()

    def raw(self, text: str) -> None:
        """Write text that is already safe and complete, such as JSON or a script."""
        self.stream.write(text if text.endswith("\n") else text + "\n")
        self.stream.flush()

    @property
    def console(self) -> "Console":
        """The rich console of this stream; made when first needed, because importing rich takes time."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                file=self.stream,
                force_terminal=self.is_terminal,
                no_color=not self.has_colour,
                highlight=False,
                markup=False,
                emoji=False,
            )
        return self._console

    def rich(self, lines: Iterable[Line]) -> "Text":
        """Lines as one rich text."""
        from rich.text import Text

        text = Text(no_wrap=True, overflow="ignore", end="")
        for line in lines:
            for span in line:
                shown = span.text.encode(self.encoding, "replace").decode(self.encoding)
                text.append(shown, style=span.style or None)
            text.append("\n")
        return text

    @contextmanager
    def moving(self, *, alternate: bool = False) -> Iterator["Moving"]:
        """A part of the screen that is redrawn in place and gone afterwards."""
        from rich.live import Live

        live = Live(
            console=self.console,
            auto_refresh=False,
            transient=True,
            screen=alternate,
            vertical_overflow="crop",
        )
        with live:
            yield Moving(self, live)


class Moving:
    """The redrawn part of a screen."""

    def __init__(self, screen: Screen, live: "Live") -> None:
        self._screen = screen
        self._live = live

    def show(self, lines: list[Line]) -> None:
        """Draw these lines instead of the former ones; what does not fit the height is cut off."""
        screen = self._screen
        room = screen.height - 1
        if len(lines) > room:
            lines = [
                *lines[: room - 1],
                (Span(f"  {screen.symbols.ellipsis} {len(lines) - room + 1} more lines", "dim"),),
            ]
        cut = [clip_line(line, screen.width - 1, screen.symbols.ellipsis) for line in lines]
        text = screen.rich(cut)
        text.rstrip()
        self._live.update(text, refresh=True)
