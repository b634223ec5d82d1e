"""The numbers of a comparison: kept as samples, shown as medians and their ratios to the bound."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

UNITS = {
    "core event": "us",
    "RSS": "MiB",
    "PSS": "MiB",
    "idle CPU": "s/min",
    "idle wake-ups": "/s",
    "captured": "MiB/s",
    "CPU of capture": "s/GiB",
    "lines lost": "lines",
    "lines torn": "lines",
    "roll, failed requests": "requests",
    "answers meanwhile": "/s",
    **{f"answers, {what}": "/s" for what in ("status", "metrics", "small")},
    **{
        f"left after {end}, in its {where}": "of 1"
        for end in ("a crash", "a crash and a stop", "a stop", "a stop that it obeyed")
        for where in ("group", "own session")
    },
}


class OtherRunError(Exception):
    """What was measured before is not to be mixed with what is measured now; the message says why."""


@dataclass
class Report:
    """Samples by measure, size and subject; each sample knows its round, so that ratios stay inside one.

    `tree` names the code that is measured, more exactly than a version; `lived` which lives were lived.
    """

    machine: dict[str, Any]
    versions: dict[str, str]
    missing: dict[str, str]
    remarks: dict[str, str]
    path: Path
    workers: str = ""
    tree: str = ""
    lived: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    samples: dict[str, dict[str, dict[str, dict[str, float]]]] = field(default_factory=dict)

    def add(self, measure: str, instances: int, subject: str, turn: int, value: float) -> None:
        """One sample: the value of one round."""
        sizes = self.samples.setdefault(measure, {}).setdefault(str(instances), {})
        sizes.setdefault(subject, {})[str(turn)] = value

    def ratio(self, measure: str, size: str, subject: str) -> float | None:
        """The median over the rounds of this subject to the bound in the same round."""
        subjects = self.samples[measure][size]
        bound = subjects.get("bound", {})
        both = [value / bound[turn] for turn, value in subjects[subject].items() if bound.get(turn)]
        return median(both) if both else None

    def write(self) -> None:
        """What there is so far, as JSON."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A run that is cut while it writes must leave what it has.
        written = self.path.with_name(f"{self.path.name}.new")
        written.write_text(json.dumps(asdict(self) | {"path": None}, indent=1) + "\n")
        written.replace(self.path)

    def resume(self) -> None:
        """Take over what an earlier run has measured; who failed in it is asked again.

        Raises:
            OtherRunError: It measured something else, or elsewhere.
        """
        if not self.path.exists():
            return
        known = json.loads(self.path.read_text())
        now = {"versions": self.versions, "tree": self.tree, "machine": _lasting(self.machine)}
        then = {name: known[name] for name in ("versions", "tree")} | {"machine": _lasting(known["machine"])}
        if then != now:
            raise OtherRunError(f"{self.path} is of {then}, and this is {now}")
        self.samples, self.lived = known["samples"], known["lived"]

    def tables(self) -> str:
        """As Markdown: for each measure a row for each size, a column for each subject."""
        names = list(self.versions)
        lines: list[str] = []
        for measure, sizes in self.samples.items():
            unit = UNITS.get(measure, "ms")
            lines += ["", f"| {measure} [{unit}] | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
            for size, subjects in sizes.items():
                cells = [self._cell(measure, size, name) if name in subjects else "–" for name in names]
                lines.append(f"| {size} | {' | '.join(cells)} |")
        lines += ["", *(f"{name}: not measured, {why}" for name, why in self.missing.items())]
        return "\n".join([*lines, *self.failures])

    def _cell(self, measure: str, size: str, name: str) -> str:
        value = median(self.samples[measure][size][name].values())
        ratio = None if name == "bound" or measure in UNITS else self.ratio(measure, size, name)
        digits = 3 if measure == "idle CPU" else 2 if value < 10 else 1 if value < 100 else 0
        return f"{value:.{digits}f}" + ("" if ratio is None else f" (×{ratio:.2f})")


def _lasting(machine: dict[str, Any]) -> dict[str, Any]:
    """What of a machine is the same in each of its runs."""
    return {name: value for name, value in machine.items() if not name.startswith("load")}
