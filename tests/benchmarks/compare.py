"""Pitboss beside other supervisors and a lower bound in C: `python -m tests.benchmarks.compare`.

Which lives are lived, and in which order: round by round, every subject in each round, so that a noisy
minute of the machine hits all alike. Prints tables of medians, writes them beside every sample as JSON.
"""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import install, narrow
from tests.benchmarks.kin import use
from tests.benchmarks.life import (
    SETTLE_SECONDS,
    Life,
    idle,
    life,
    memory,
    rest,
)
from tests.benchmarks.load import be_asked
from tests.benchmarks.measures import Part, parts
from tests.benchmarks.ours import Bare, Bound, Pitboss, built
from tests.benchmarks.peers import PEERS
from tests.benchmarks.report import OtherRunError, Report
from tests.benchmarks.subject import Subject

MEASURES = (
    "lives",
    "hung",
    "all",
    "logs",
    "flood",
    "family",
    "limits",
    "users",
    "narrow",
    "clients",
    "asking",
    "roll",
    "idle",
)


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": os.getloadavg(),
    }


def say(where: str) -> None:
    """How far it has come, and how busy the machine is."""
    print(f"{where}: load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)


def rounds(report: Report, part: Part, subjects: Iterable[Subject], repetitions: int) -> None:
    """A B C, A B C, … for each size. A subject that fails is reported, and left out of this size."""
    for instances, turn in part.turns.items():
        failed: set[str] = set()
        for number in range(repetitions):
            for subject in subjects:
                this = f"{part.name}, {instances}, {number}, {subject.name}"
                if not subject.takes(instances) or subject.name in failed or this in report.lived:
                    continue
                try:
                    found = turn(subject, instances)
                except Exception as error:  # noqa: BLE001 - whatever a peer does, the others are measured
                    report.failures.append(f"{subject.name} with {instances}, round {number}: {error}")
                    failed.add(subject.name)
                    continue
                for measure, value in found.items():
                    report.add(measure, instances, subject.name, number, value)
                report.lived.append(this)
                report.write()
            say(f"{part.name}, {instances} instances, round {number + 1} of {repetitions}")


def rest_together(
    report: Report, subjects: Iterable[Subject], size: int, repetitions: int, seconds: float, settle: float
) -> None:
    """All at once, because they sleep: what they use meanwhile, and their memory."""
    left = [number for number in range(repetitions) if f"idle, {size}, {number}" not in report.lived]
    if not left:
        return
    with ExitStack() as stack:
        lives: list[Life] = []
        for subject in subjects:
            if subject.takes(size):
                try:
                    one = stack.enter_context(life(subject, size))
                    be_asked(one)
                    lives.append(one)
                except Exception as error:  # noqa: BLE001 - as above
                    report.failures.append(f"{subject.name} idle with {size}: {error}")
        rest(settle)
        for number in left:
            before = [use(one.supervisors()) for one in lives]
            rest(seconds)
            for one, used in zip(lives, before, strict=True):
                for measure, value in (idle(one, used, seconds) | memory(one)).items():
                    report.add(measure, size, one.subject.name, number, value)
            report.lived.append(f"idle, {size}, {number}")
            report.write()
            say(f"idle, {size} instances, round {number + 1} of {repetitions}")


def choose(names: list[str], pitboss: Pitboss) -> tuple[list[Subject], dict[str, str]]:
    """The subjects that can be measured here, the bound first; why the others cannot."""
    found: list[Subject] = []
    missing = {}
    for subject in (Bound(), Bare(), pitboss, *(kind() for kind in PEERS)):
        if names and subject.name not in names:
            continue
        reason = subject.missing()
        if reason is None:
            found.append(subject)
        else:
            missing[subject.name] = reason
    return found, missing


def main() -> int:
    """Measure, print and write; 1 if pitboss or the bound failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--smoke", action="store_true", help="three workers, one round, only the bound and us"
    )
    parser.add_argument("--only", nargs="*", default=[], help="these subjects")
    parser.add_argument("--measures", nargs="*", default=list(MEASURES), help="of " + " ".join(MEASURES))
    parser.add_argument("--idle-sizes", type=int, nargs="*", default=[0, 200, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1, 100, 200, 500, 1000])
    parser.add_argument("--resume", action="store_true", help="keep what a run that was cut has measured")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    # Who cuts a run must not be left with a thousand workers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.smoke:
        options.only, options.rounds, options.sizes = ["bound", "pitboss"], 1, [3]
        pitboss = Pitboss()
    else:
        install.main()
        wheel = install.wheel_directory() / "bin/pitbossd"
        pitboss = Pitboss(wheel) if wheel.exists() else Pitboss()
    subjects, missing = choose(options.only, pitboss)
    report = Report(
        machine(),
        {subject.name: subject.version() for subject in subjects},
        missing,
        {subject.name: subject.remark for subject in subjects if subject.remark},
        options.json,
        str(built("worker", "-static")),
        install.wheel_directory().name,
    )
    if options.resume:
        try:
            report.resume()
        except OtherRunError as error:
            parser.error(f"{error}; without --resume everything is measured again")
    settle = 0.1 if options.smoke else SETTLE_SECONDS
    for part in parts(options.sizes, settle, smoke=options.smoke):
        if part.name in options.measures:
            able = [subject for subject in subjects if part.can(subject)]
            rounds(report, part, able, min(options.rounds, part.most_rounds))
    if "users" in options.measures and not narrow.may_give_users():
        missing["workers with a user"] = "only root can give them one"
    seconds = 0.5 if options.smoke else 20.0
    if "idle" in options.measures:
        for size in (0, 3) if options.smoke else options.idle_sizes:
            rest_together(report, subjects, size, options.rounds, seconds, 2 * settle)
    report.machine["load after"] = os.getloadavg()
    report.write()
    options.json.with_suffix(".md").write_text(report.tables() + "\n")
    print(report.tables())
    # What a peer cannot do is said, and is no failure of the comparison.
    return int(any(failure.split()[0] in ("bound", "pitboss") for failure in report.failures))


if __name__ == "__main__":
    sys.exit(main())
