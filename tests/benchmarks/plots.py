"""Bars of a comparison, as SVG written by hand: one for each size and subject.

On a logarithmic scale, because the subjects differ by a thousand. Decides only how numbers look.
"""

from html import escape
from math import ceil, floor, log10
from statistics import median

COLOURS = {"bound": "#999999", "bare": "#c4a24a", "pitboss": "#1a7f37"}
OTHER = "#6e8fb5"
LEFT, WIDE, BAR, GAP, TOP = 150, 470, 14, 12, 44

Samples = dict[str, dict[str, dict[str, float]]]


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 11) -> str:
    """One line of text."""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="#333333">{escape(words)}</text>'
    )


def shown(value: float) -> str:
    """A number with about three digits."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def picture(title: str, samples: Samples) -> str:
    """The SVG of one measure: medians of the rounds, by size and subject."""
    rows = {
        (size, name): median(turns.values())
        for size, subjects in samples.items()
        for name, turns in subjects.items()
        if turns
    }
    low = floor(log10(max(1e-3, min(rows.values()))))
    high = max(low + 1, ceil(log10(max(rows.values()))))
    step = WIDE / (high - low)
    height = TOP + len(rows) * (BAR + 4) + len(samples) * GAP
    parts = [
        text(10, 18, f"{title}, medians, logarithmic", size=13),
        *(
            f'<line x1="{LEFT + step * place:.0f}" x2="{LEFT + step * place:.0f}" y1="{TOP - 4}" '
            f'y2="{height - 4}" stroke="#dddddd"/>'
            + text(LEFT + step * place, TOP - 8, f"{10.0 ** (low + place):g}", "middle")
            for place in range(high - low + 1)
        ),
    ]
    y = float(TOP)
    previous, _ = next(iter(rows))
    for (size, name), value in rows.items():
        if size != previous:
            y, previous = y + GAP, size
        wide = max(1.0, step * (log10(max(value, 10.0**low)) - low))
        parts.append(text(LEFT - 6, y + BAR - 3, f"{name}, {size}", "end"))
        colour = COLOURS.get(name, OTHER)
        parts.append(f'<rect x="{LEFT}" y="{y:.0f}" width="{wide:.0f}" height="{BAR}" fill="{colour}"/>')
        parts.append(text(LEFT + wide + 4, y + BAR - 3, shown(value)))
        y += BAR + 4
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + 60}" height="{height}" '
        f'font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )
