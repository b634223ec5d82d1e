"""The comparison still runs: three workers, one round, the bound and us. No number is judged here."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from xml.etree import ElementTree as ET

import pytest

from tests.benchmarks import load
from tests.benchmarks.draw import draw
from tests.benchmarks.plots import WIDE, picture
from tests.benchmarks.report import OtherRunError, Report
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {"start, with a limit", "start, first to last, with a limit"}
USERS = {
    "start, with a user",
    "start, first to last, with a user",
    "kill to replacement, with a limit and a user",
}
LIVES = {"start", "start, first to last", "kill to replacement", "stop", "stop, workers"}
CAPTURE = {"captured", "CPU of capture", "lines lost", "lines torn"}
FLOOD = {f"kill to replacement, flood{which}" for which in ("", ", p99", ", slowest")}
FAMILY = {
    f"left after {after}, in its {where}"
    for after in ("a crash", "a crash and a stop", "a stop", "a stop that it obeyed")
    for where in ("group", "own session")
}
CLIENTS = {f"kill to replacement, clients{which}" for which in ("", ", p99", ", slowest")} | {
    "answers meanwhile"
}
ASKING = {
    measure.format(what)
    for what in ("status", "metrics", "small")
    for measure in ("answers, {}", "answer, {}, median", "answer, {}, p99", "CPU of an answer, {}")
}
ROLL = {"roll", "roll, failed requests", "roll, p99 of answers", "roll, slowest answer"}
OURS_ALONE = CAPTURE | FLOOD | ASKING | {"answers meanwhile"}
RESTING = {"idle CPU", "idle wake-ups", "RSS", "PSS"}


def test_the_p99_is_the_last_but_one_of_a_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    """By rank; of few it is the slowest."""
    for count, p99 in ((100, 99.0), (10, 10.0)):
        found = [float(number) for number in range(count, 0, -1)]
        monkeypatch.setattr(load, "replacements", lambda *_one, _found=found, **_options: _found)
        said = load.killed_under("x", Mock(), count)
        assert said["kill to replacement, x, p99"] == p99
        assert said["kill to replacement, x, slowest"] == count
        assert said["kill to replacement, x"] == (count + 1) / 2


def compared(path: Path, *options: str) -> dict[str, Any]:
    """The report of a small comparison."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.compare", "--smoke", "--json", str(path), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.mark.skipif(
    not shutil.which("gcc") and not os.environ.get("CI"), reason="gcc builds bound and worker"
)
def test_a_small_comparison_fills_every_table(tmp_path: Path) -> None:
    """Every measure has a sample of both subjects, nothing failed, and no process is left."""
    path = tmp_path / "bench.json"
    document = compared(path)
    assert set(document["samples"]) == (
        LIVES
        | RESTING
        | CAPTURE
        | FLOOD
        | FAMILY
        | LIMITS
        | (USERS if os.geteuid() == 0 else set())
        | CLIENTS
        | ASKING
        | ROLL
        | {"past the grace window", "all killed to all replaced"}
    )
    for measure, sizes in document["samples"].items():
        for size, subjects in sizes.items():
            both = set() if measure in OURS_ALONE else {"bound"}
            assert set(subjects) == both | {"pitboss"}, (measure, size)
    for wrong in ("lines lost", "lines torn"):
        assert set(document["samples"][wrong]["1"]["pitboss"].values()) == {0}
    for subject in ("bound", "pitboss"):
        assert set(document["samples"]["roll, failed requests"]["3"][subject].values()) == {0}, subject
    for child in FAMILY:
        assert set(document["samples"][child]["1"]["pitboss"].values()) == {0}, child
    assert document["failures"] == []
    assert document["samples"]["kill to replacement"]["3"]["pitboss"]["0"] > 0
    assert still_running(document["workers"]) == []
    assert compared(path, "--resume")["samples"] == document["samples"]


@pytest.mark.skipif(
    not shutil.which("gcc") and not os.environ.get("CI"), reason="gcc builds bound and worker"
)
def test_a_comparison_may_be_cut(tmp_path: Path) -> None:
    """No worker outlives it, and what it has measured is not measured again."""
    path, options = tmp_path / "bench.json", ("--measures", "lives", "hung", "all")
    command = [sys.executable, "-m", "tests.benchmarks.compare", "--smoke", "--json", str(path), *options]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(path.exists, within=120)
        known = json.loads(path.read_text())
        eventually(lambda: running.poll() is not None or still_running(known["workers"]), within=60)
    finally:
        running.terminate()
        running.wait(120)
    assert still_running(known["workers"]) == []
    again = compared(path, *options, "--resume")
    assert set(known["lived"]) < set(again["lived"])
    for subject, turns in known["samples"]["start"]["3"].items():
        assert again["samples"]["start"]["3"][subject] == turns


def still_running(program: str) -> list[str]:
    """The processes of this program, which only one comparison has."""
    return [entry for entry in os.listdir("/proc") if entry.isdigit() and _runs(entry, program)]


def _runs(pid: str, program: str) -> bool:
    """Whether this process is a worker of that comparison."""
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)") == program
    except OSError:
        return False


def report() -> Report:
    """An empty one of two subjects."""
    return Report(
        machine={},
        versions={"bound": "1", "pitboss": "2"},
        missing={"pm2": "no npm"},
        remarks={},
        path=Path("x"),
    )


def test_a_ratio_is_that_of_one_round() -> None:
    """A slow round of the machine slows both; the median is taken of the ratios, not of the values."""
    one = report()
    for turn, (bound, ours) in enumerate(((1.0, 2.0), (10.0, 20.0), (2.0, 4.0))):
        one.add("stop", 3, "bound", turn, bound)
        one.add("stop", 3, "pitboss", turn, ours)
    assert one.ratio("stop", "3", "pitboss") == pytest.approx(2.0)
    assert "| 3 | 2.00 | 4.00 (×2.00) |" in one.tables()


def test_a_run_that_was_cut_goes_on(tmp_path: Path) -> None:
    """Its samples are kept, whatever the load was; who failed in it is asked again."""
    cut = replace(report(), path=tmp_path / "bench.json", machine={"cores": 2, "load before": 1.0})
    cut.add("stop", 3, "bound", 0, 1.0)
    cut.lived.append("lives, 3, 0, bound")
    cut.failures.append("pitboss with 3, round 0: it was late")
    cut.write()
    again = replace(report(), path=cut.path, machine={"cores": 2, "load before": 9.0})
    again.resume()
    assert (again.samples, again.lived, again.failures) == (cut.samples, cut.lived, [])


@pytest.mark.parametrize("change", [{"versions": {"bound": "2"}}, {"tree": "y"}, {"machine": {"cores": 4}}])
def test_runs_of_different_things_are_not_mixed(tmp_path: Path, change: dict[str, Any]) -> None:
    """Another version, another tree, another machine: what there is is refused, and stays as it is."""
    cut = replace(report(), path=tmp_path / "bench.json")
    cut.write()
    other = replace(report(), path=cut.path, **change)
    with pytest.raises(OtherRunError):
        other.resume()
    assert other.samples == {}


def test_who_is_not_measured_is_named() -> None:
    """A supervisor that is not there, and one that failed, are in the report with the reason."""
    one = report()
    one.failures.append("circus with 1000, round 0: 3 of 1000 within 60 s")
    assert "pm2: not measured, no npm" in one.tables()
    assert "circus with 1000" in one.tables()


def test_a_picture_has_a_bar_for_each_median() -> None:
    """It is well-formed, names every subject, and its bars grow with the logarithm of the value."""
    root = ET.fromstring(
        picture("stop", {"3": {"bound": {"0": 1.0, "1": 3.0, "2": 2.0}, "pitboss": {"0": 100.0}}})
    )
    svg = "{http://www.w3.org/2000/svg}"
    said = [text.text for text in root.iter(f"{svg}text")]
    assert {"bound, 3", "2.00", "pitboss, 3", "100"} <= set(said)
    bound, ours = (float(bar.attrib["width"]) for bar in list(root.iter(f"{svg}rect"))[1:])
    assert bound < ours == WIDE


def test_every_file_of_samples_becomes_pictures(tmp_path: Path) -> None:
    """Bars and their ratios to the bound, of the same round; a line over the sizes for each subject."""
    comparison, core = tmp_path / "bench.json", tmp_path / "core.json"
    both = {"bound": {"0": 1.0, "1": 10.0}, "pitboss": {"0": 2.0, "1": 20.0}}
    memory = {size: {"bound": {"0": 0.1}, "pitboss": {"0": 20.0}} for size in ("0", "200", "1000")}
    comparison.write_text(json.dumps({"samples": {"start": {"3": both}, "RSS": memory, "PSS": memory}}))
    sizes = {"10": {"pitboss": {"0": 18.0}}, "1000": {"pitboss": {"0": 22.0}}}
    core.write_text(json.dumps({"samples": {"core event": sizes}}))
    drawn = {path.stem: ET.parse(path).getroot() for path in draw([comparison, core], tmp_path / "plots")}
    assert set(drawn) == {"start", "start-ratio", "rss", "pss", "core-event"}
    svg = "{http://www.w3.org/2000/svg}"
    said = {name: {text.text for text in root.iter(f"{svg}text")} for name, root in drawn.items()}
    assert {"pitboss, 3", "2.00"} <= said["start-ratio"]
    assert "bound, 3" not in said["start-ratio"]
    assert {"0", "200", "1000", "pitboss 20.0", "bound 0.10"} <= said["rss"]
    assert len(list(drawn["rss"].iter(f"{svg}polyline"))) == 2
    assert len(list(drawn["core-event"].iter(f"{svg}circle"))) == 2
