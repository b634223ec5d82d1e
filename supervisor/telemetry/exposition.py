"""Families of series as text: what changed is formatted anew, what did not is a cached line.

Formatting a thousand instances through client objects holds the loop for 56-180 ms; cached lines
take under 1 ms. The formats are Prometheus text 0.0.4 and OpenMetrics 1.0, which share their sample
lines and differ in the headers and the end.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable

from supervisor.telemetry.metric_table import Kind, Metric

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
END = b"# EOF\n"

Labels = tuple[str, ...]


def number(value: float) -> str:
    """A value as text: whole numbers without a point, everything else so that it reads back the same."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 2**53):
        return str(int(value))
    return repr(value) if value - value == 0 else {"inf": "+Inf", "-inf": "-Inf"}.get(repr(value), "NaN")


def escaped(value: str) -> str:
    """A label value between its quotes."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def series(name: str, labels: Iterable[str], values: Labels) -> bytes:
    """A sample line up to its value: the name, the labels and a space."""
    text = ",".join(f'{label}="{escaped(value)}"' for label, value in zip(labels, values, strict=True))
    return f"{name}{{{text}}} ".encode("utf-8", "replace") if text else f"{name} ".encode()


def header(metric: Metric, *, openmetrics: bool) -> bytes:
    """The HELP and TYPE lines; OpenMetrics names a counter's family without `_total`."""
    family = metric.name
    if openmetrics and metric.kind is Kind.COUNTER:
        family = family.removesuffix("_total")
    text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        text = text.replace('"', '\\"')
    return f"# HELP {family} {text}\n# TYPE {family} {metric.kind}\n".encode()


class Family:
    """Counters or gauges of one metric."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._values: dict[Labels, float] = {}
        self._lines: dict[Labels, bytes] = {}
        self._prefixes: dict[Labels, bytes] = {}
        self._changed: set[Labels] = set()
        self._text: bytes | None = b""

    def set(self, value: float, *labels: str) -> None:
        """Make a series have this value; the same one costs nothing."""
        if self._values.get(labels) != value:
            self._values[labels] = value
            self._changed.add(labels)
            self._text = None

    def add(self, amount: float, *labels: str) -> None:
        """Count, from 0 where there is no series yet. Anything but a finite number from 0 on is left out."""
        if not 0 <= amount < float("inf"):
            return
        self._values[labels] = self._values.get(labels, 0) + amount
        self._changed.add(labels)
        self._text = None

    def keep(self, wanted: Callable[[Labels], bool]) -> None:
        """Drop the series whose labels are not wanted any more."""
        for labels in [one for one in self._values if not wanted(one)]:
            del self._values[labels]
            self._lines.pop(labels, None)
            self._prefixes.pop(labels, None)
            self._changed.discard(labels)
            self._text = None

    def text(self) -> bytes:
        """The sample lines."""
        if self._text is None:
            for labels in self._changed:
                self._lines[labels] = self._line(labels)
            self._changed.clear()
            self._text = b"".join(self._lines.values())
        return self._text

    def _line(self, labels: Labels) -> bytes:
        prefix = self._prefixes.get(labels)
        if prefix is None:
            prefix = self._prefixes[labels] = series(self.metric.name, self.metric.labels, labels)
        return prefix + number(self._values[labels]).encode() + b"\n"


class _Spread:
    """The observations of one histogram series."""

    __slots__ = ("counts", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.total = 0.0


class Histogram:
    """Histograms of one metric: cumulative buckets, sum and count."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._spreads: dict[Labels, _Spread] = {}
        self._blocks: dict[Labels, bytes] = {}
        self._changed: set[Labels] = set()
        self._text: bytes | None = b""
        self._bounds = [*(repr(float(bound)) for bound in metric.buckets), "+Inf"]

    def begin(self, *labels: str) -> _Spread:
        """Have a series, empty at first."""
        spread = self._spreads.get(labels)
        if spread is None:
            spread = self._spreads[labels] = _Spread(len(self._bounds))
            self._changed.add(labels)
            self._text = None
        return spread

    def observe(self, value: float, *labels: str) -> None:
        """Take one observation in, seconds. Anything but a finite number from 0 on is left out."""
        if not 0 <= value < float("inf"):
            return
        spread = self.begin(*labels)
        spread.counts[bisect_left(self.metric.buckets, value)] += 1
        spread.total += value
        self._changed.add(labels)
        self._text = None

    def keep(self, wanted: Callable[[Labels], bool]) -> None:
        """Drop the series whose labels are not wanted any more."""
        for labels in [one for one in self._spreads if not wanted(one)]:
            del self._spreads[labels]
            self._blocks.pop(labels, None)
            self._changed.discard(labels)
            self._text = None

    def text(self) -> bytes:
        """The sample lines."""
        if self._text is None:
            for labels in self._changed:
                self._blocks[labels] = self._block(labels)
            self._changed.clear()
            self._text = b"".join(self._blocks.values())
        return self._text

    def _block(self, labels: Labels) -> bytes:
        spread, name = self._spreads[labels], self.metric.name
        names = (*self.metric.labels, "le")
        lines, count = [], 0
        for bound, own in zip(self._bounds, spread.counts, strict=True):
            count += own
            lines.append(series(f"{name}_bucket", names, (*labels, bound)) + b"%d\n" % count)
        total = number(spread.total).encode()
        lines.append(series(f"{name}_sum", self.metric.labels, labels) + total + b"\n")
        lines.append(series(f"{name}_count", self.metric.labels, labels) + b"%d\n" % count)
        return b"".join(lines)
