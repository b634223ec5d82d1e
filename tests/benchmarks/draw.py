"""Which pictures are drawn: `python -m tests.benchmarks.draw build/bench.json --into DIRECTORY`.

Reads the samples of a comparison, and those of `bench_core`; a measure that is in no file has no picture.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks.curves import curve
from tests.benchmarks.plots import Samples, picture
from tests.benchmarks.report import UNITS

BARS = {
    "kill to replacement": "replacement",
    "start": "start",
    "stop": "stop",
    "captured": "captured",
    "all killed to all replaced": "all",
}
CURVES = {"RSS": ("rss", True), "PSS": ("pss", True), "core event": ("core-event", False)}
"""The name of the picture, and whether it is logarithmic."""


def ratios(samples: Samples) -> Samples:
    """How many times as much as the bound in the same round; without those that it has not."""
    return {
        size: {
            name: {turn: value / bound[turn] for turn, value in turns.items() if bound.get(turn)}
            for name, turns in subjects.items()
            if name != "bound"
        }
        for size, subjects in samples.items()
        if (bound := subjects.get("bound", {}))
    }


def draw(files: Iterable[Path], into: Path) -> list[Path]:
    """Write every picture for which there is something; where they are."""
    samples: dict[str, Samples] = {}
    for path in files:
        for measure, sizes in json.loads(path.read_text())["samples"].items():
            samples.setdefault(measure, {}).update(sizes)
    pictures: dict[str, str] = {}
    for measure, name in BARS.items():
        if measure in samples:
            pictures[name] = picture(f"{measure} [{UNITS.get(measure, 'ms')}]", samples[measure])
            times = ratios(samples[measure])
            if any(any(subjects.values()) for subjects in times.values()):
                pictures[f"{name}-ratio"] = picture(f"{measure}, times the bound", times)
    for measure, (name, logarithmic) in CURVES.items():
        if measure in samples:
            title = f"{measure} [{UNITS[measure]}], medians, by instances"
            pictures[name] = curve(title, samples[measure], logarithmic=logarithmic)
    into.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures.items():
        (into / f"{name}.svg").write_text(svg)
    return [into / f"{name}.svg" for name in pictures]


def main() -> int:
    """Read the samples, in one file or several, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path, nargs="+")
    parser.add_argument("--into", type=Path, default=Path("build/plots"))
    options = parser.parse_args()
    for path in draw(options.json, options.into):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
