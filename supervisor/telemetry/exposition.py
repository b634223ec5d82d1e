"""Families of series as text: what changed is formatted anew, what did not is a cached line.

Formatting a thousand instances through client objects holds the loop for 56-180 ms; cached lines
take under 1 ms. What has to be formatted is formatted in steps, between which the caller may let the
loop turn: the first scrape of a thousand pools is 60 000 lines. The formats are Prometheus text 0.0.4
and OpenMetrics 1.0, which share their sample lines and differ in the headers and the end.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from supervisor.telemetry.metric_table import Kind, Metric

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
END = b"# EOF\n"

STEP = 200
"""Lines formatted, or series looked at, in one step: a quarter of a millisecond."""

Labels = tuple[str, ...]
Value = TypeVar("Value")


def number(value: float) -> str:
    """A value as text: whole numbers without a point, everything else so that it reads back the same."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 2**53):
        return str(int(value))
    return repr(value) if value - value == 0 else {"inf": "+Inf", "-inf": "-Inf"}.get(repr(value), "NaN")


def escaped(value: str) -> str:
    """A label value between its quotes."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def pairs(labels: Iterable[str]) -> str:
    """The labels of a series, with `%s` for the value of each."""
    return ",".join(f'{label}="%s"' for label in labels)


def series(name: str, labels: Iterable[str]) -> str:
    """A sample line up to its value: the name, the labels with `%s` for the value of each, a space."""
    text = pairs(labels)
    return f"{name}{{{text}}} " if text else f"{name} "


def filled(pattern: str, values: Labels) -> str:
    """The pattern with these values."""
    return pattern % tuple(map(escaped, values))


def header(metric: Metric, *, openmetrics: bool) -> bytes:
    """The HELP and TYPE lines; OpenMetrics names a counter's family without `_total`."""
    family = metric.name
    if openmetrics and metric.kind is Kind.COUNTER:
        family = family.removesuffix("_total")
    text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    if openmetrics:
        text = text.replace('"', '\\"')
    return f"# HELP {family} {text}\n# TYPE {family} {metric.kind}\n".encode()


class _Cached(ABC, Generic[Value]):
    """The series of one metric: the value of each, and its text for as long as the value is the same."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._values: dict[Labels, Value] = {}
        self._lines: dict[Labels, bytes] = {}
        self._changed: set[Labels] = set()
        self._text: bytes | None = b""

    def _touch(self, labels: Labels) -> None:
        # The place is taken here, so that the order of the lines does not depend on the set's.
        self._lines.setdefault(labels, b"")
        self._changed.add(labels)
        self._text = None

    def keep(self, wanted: Callable[[Labels], bool]) -> None:
        """Drop the series whose labels are not wanted any more."""
        for labels in [one for one in self._values if not wanted(one)]:
            del self._values[labels]
            del self._lines[labels]
            self._changed.discard(labels)
            self._text = None

    def pieces(self) -> Iterator[bytes]:
        """The sample lines as the last piece; before it, an empty one after each step of the work.

        Between pieces series may change, come and go: each is shown as it was at some moment of these.
        """
        count = 0
        while self._changed:
            labels = self._changed.pop()
            self._lines[labels] = self._format(labels)
            count += self._lines_each
            if count >= STEP:
                count = 0
                yield b""
        if self._text is None:
            self._text = b"".join(self._lines.values())
        yield self._text

    def text(self) -> bytes:
        """The sample lines."""
        return b"".join(self.pieces())

    _lines_each = 1

    @abstractmethod
    def _format(self, labels: Labels) -> bytes:
        """The lines of one series."""


class Family(_Cached[float]):
    """Counters or gauges of one metric."""

    def __init__(self, metric: Metric) -> None:
        super().__init__(metric)
        self._series = series(metric.name, metric.labels)

    def set(self, value: float, *labels: str) -> None:
        """Make a series have this value; the same one costs nothing."""
        if self._values.get(labels) != value:
            self._values[labels] = value
            self._touch(labels)

    def add(self, amount: float, *labels: str) -> None:
        """Count, from 0 where there is no series yet. Anything but a finite number from 0 on is left out."""
        if not 0 <= amount < float("inf"):
            return
        value = self._values.get(labels)
        if amount or value is None:
            self._values[labels] = (value or 0) + amount
            self._touch(labels)

    def _format(self, labels: Labels) -> bytes:
        line = self._lines[labels]
        # No value has a space in it: what is before the last one is the series, once it has been written.
        head = line[: line.rfind(b" ") + 1] or filled(self._series, labels).encode("utf-8", "replace")
        return b"%s%s\n" % (head, number(self._values[labels]).encode())


class _Spread:
    """The observations of one histogram series."""

    __slots__ = ("counts", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.total = 0.0


class Histogram(_Cached[_Spread]):
    """Histograms of one metric: cumulative buckets, sum and count."""

    def __init__(self, metric: Metric) -> None:
        super().__init__(metric)
        bounds = [*(repr(float(bound)) for bound in metric.buckets), "+Inf"]
        self._pairs = pairs(metric.labels)
        name, before, alone = metric.name, "\0," if metric.labels else "", "{\0}" if metric.labels else ""
        buckets = "".join(f'{name}_bucket{{{before}le="{bound}"}} %d\n' for bound in bounds)
        self._template = f"{buckets}{name}_sum{alone} %s\n{name}_count{alone} %d\n"
        self._lines_each = len(bounds) + 2

    def begin(self, *labels: str) -> _Spread:
        """Have a series, empty at first."""
        spread = self._values.get(labels)
        if spread is None:
            spread = self._values[labels] = _Spread(len(self.metric.buckets) + 1)
            self._touch(labels)
        return spread

    def observe(self, value: float, *labels: str) -> None:
        """Take one observation in, seconds. Anything but a finite number from 0 on is left out."""
        if not 0 <= value < float("inf"):
            return
        spread = self.begin(*labels)
        spread.counts[bisect_left(self.metric.buckets, value)] += 1
        spread.total += value
        self._touch(labels)

    def _format(self, labels: Labels) -> bytes:
        spread = self._values[labels]
        counts = tuple(accumulate(spread.counts))
        text = self._template % (*counts, number(spread.total), counts[-1])
        return text.replace("\0", filled(self._pairs, labels)).encode("utf-8", "replace")


class Families:
    """Every metric of a table by its name."""

    def __init__(self, table: Sequence[Metric]) -> None:
        self._table = table
        self._plain = {one.name: Family(one) for one in table if one.kind is not Kind.HISTOGRAM}
        self._spread = {one.name: Histogram(one) for one in table if one.kind is Kind.HISTOGRAM}
        self._headers = {form: [header(one, openmetrics=form) for one in table] for form in (False, True)}

    def set(self, name: str, value: float, *labels: str) -> None:
        """Make a counter or gauge have this value."""
        self._plain[name].set(value, *labels)

    def add(self, name: str, amount: float, *labels: str) -> None:
        """Count."""
        self._plain[name].add(amount, *labels)

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Take an observation into a histogram."""
        self._spread[name].observe(value, *labels)

    def begin(self, name: str, *labels: str) -> None:
        """Have a series: a counter at 0, a histogram without observations."""
        if name in self._spread:
            self._spread[name].begin(*labels)
        else:
            self._plain[name].add(0, *labels)

    def keep(self, name: str, wanted: Callable[[Labels], bool]) -> None:
        """Drop the series of one metric whose labels are not wanted any more."""
        (self._plain.get(name) or self._spread[name]).keep(wanted)

    def pieces(self, ready_made: Mapping[str, bytes], *, openmetrics: bool) -> Iterator[bytes]:
        """The whole text in pieces, empty ones after steps of work; `ready_made` are lines made elsewhere."""
        for metric, head in zip(self._table, self._headers[openmetrics], strict=True):
            yield head
            made = ready_made.get(metric.name)
            if made is not None:
                yield made
            else:
                yield from (self._plain.get(metric.name) or self._spread[metric.name]).pieces()
        if openmetrics:
            yield END
