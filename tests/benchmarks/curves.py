"""A line for each subject over the sizes of the fleet, as SVG. Decides only how numbers look."""

from collections.abc import Iterable
from math import ceil, floor, log10
from statistics import median

from tests.benchmarks.plots import COLOURS, LEFT, OTHER, TOP, WIDE, Samples, shown, text

HIGH = 260
ROOM = 110
"""Right of the last point, for the names."""
LEAST_GAP = 13
"""Between two names."""


class Axis:
    """Where a value stands, from the top: logarithmic between powers of ten, or linear from zero."""

    def __init__(self, values: Iterable[float], *, logarithmic: bool) -> None:
        known = [value for value in values if value > 0]
        self._log = logarithmic
        top = 10.0 ** floor(log10(max(known)))
        self.low = 10.0 ** floor(log10(min(known))) if logarithmic else 0.0
        self.high = 10.0 ** ceil(log10(max(known))) if logarithmic else ceil(max(known) / top) * top

    def y(self, value: float) -> float:
        """In pixels."""
        if self._log:
            share = log10(max(value, self.low) / self.low) / max(1.0, log10(self.high / self.low))
        else:
            share = value / self.high
        return TOP + HIGH * (1 - share)

    def marks(self) -> list[float]:
        """Values that are written beside it."""
        if self._log:
            return [self.low * 10.0**power for power in range(max(1, round(log10(self.high / self.low))) + 1)]
        return [self.high * part / 4 for part in range(5)]


def _apart(places: dict[str, float]) -> dict[str, float]:
    """The same, moved down where two would stand on each other."""
    found: dict[str, float] = {}
    lowest = float("-inf")
    for name, y in sorted(places.items(), key=lambda item: item[1]):
        lowest = found[name] = max(y, lowest + LEAST_GAP)
    return found


def curve(title: str, samples: Samples, *, logarithmic: bool) -> str:
    """The SVG: medians of the rounds, the sizes beside each other at equal distances."""
    sizes = sorted(samples, key=int)
    step = WIDE / max(1, len(sizes) - 1)
    lines: dict[str, list[tuple[float, float]]] = {}
    for place, size in enumerate(sizes):
        for name, turns in samples[size].items():
            lines.setdefault(name, []).append((LEFT + step * place, median(turns.values())))
    axis = Axis((value for line in lines.values() for _, value in line), logarithmic=logarithmic)
    parts = [text(10, 18, title, size=13)]
    for mark in axis.marks():
        y = axis.y(mark)
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDE}" y1="{y:.0f}" y2="{y:.0f}" stroke="#dddddd"/>')
        parts.append(text(LEFT - 6, y + 4, f"{mark:g}", "end"))
    parts += [text(LEFT + step * place, TOP + HIGH + 18, size, "middle") for place, size in enumerate(sizes)]
    names = _apart({name: axis.y(line[-1][1]) for name, line in lines.items()})
    for name, line in lines.items():
        colour = COLOURS.get(name, OTHER)
        points = " ".join(f"{x:.0f},{axis.y(value):.1f}" for x, value in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x:.0f}" cy="{axis.y(value):.1f}" r="3" fill="{colour}"/>' for x, value in line
        ]
        x, last = line[-1]
        parts.append(text(x + 8, names[name] + 4, f"{name} {shown(last)}"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + ROOM}" height="{TOP + HIGH + 32}" '
        'font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
