"""What the pages say can be followed: links lead somewhere, commands exist, nobody is left out."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from supervisor.telemetry.metric_table import TABLE

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
METRICS = {metric.name for metric in TABLE}
FENCE = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```", re.MULTILINE | re.DOTALL)


def links(page: Path, text: str) -> Iterator[tuple[str, Path, str]]:
    """The links of a page that stay in the repository: as written, the file meant, and the heading."""
    for target in LINK.findall(FENCE.sub("", text)):
        if not re.match(r"[a-z]+:", target):
            path, _, heading = target.partition("#")
            yield target, (page.parent / path).resolve() if path else page, heading


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    titles = re.findall(r"^#+ +(.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path, text: str) -> Iterator[str]:
    """The links that lead nowhere."""
    for target, path, heading in links(page, text):
        if not path.exists():
            yield f"{target}: there is no such file"
        elif heading and heading not in headings(path.read_text(encoding="utf-8")):
            yield f"{target}: that page has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file of the repository, and a heading that the page has."""
    assert list(dead_links(page, page.read_text(encoding="utf-8"))) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    """A missing file and a missing heading are both named."""
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](no.md) [b](#one) [c](#two) [d](https://example.com/x)\n")
    assert [line.split(":")[0] for line in dead_links(page, page.read_text())] == ["no.md", "#two"]


def test_no_page_is_an_island() -> None:
    """Starting at the index, one can read every page."""
    reached: set[Path] = set()
    todo = [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        todo += [path for _, path, _ in links(page, page.read_text(encoding="utf-8"))]
    islands = {page for page in PAGES if page.parent != ROOT} - reached
    assert sorted(page.relative_to(ROOT).as_posix() for page in islands) == []


def commands(text: str) -> Iterator[list[str]]:
    """Every command line that a `console` block shows after its prompt."""
    for language, body in FENCE.findall(text):
        if language == "console":
            for line in body.replace("\\\n", " ").splitlines():
                if line.strip().startswith(("$ ", "# ")):
                    yield shlex.split(line.strip()[2:], comments=True)


@cache
def make_targets() -> frozenset[str]:
    """The targets of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


def groups() -> dict[str, click.Group]:
    """The command line of both programs."""
    from supervisor.cli import pitbossctl, pitbossd_commands

    found = {}
    for name, module in (("pitbossd", pitbossd_commands), ("pitbossctl", pitbossctl)):
        (found[name],) = {
            id(one): one for one in vars(module).values() if isinstance(one, click.Group)
        }.values()
    return found


def wrong_with(words: list[str]) -> str:
    """Why a command line cannot be typed; empty if it can, or is none of ours."""
    program = words[0].rsplit("/", 1)[-1]
    if program == "make":
        unknown = [word for word in words[1:] if "=" not in word and word not in make_targets()]
        return f"make has no target {unknown[0]}" if unknown else ""
    if program not in {"pitbossd", "pitbossctl"}:
        return ""
    command: click.Command = groups()[program]
    options, rest = _options(command), iter(words[1:])
    for word in rest:
        if word.startswith("-"):
            option = options.get(word.split("=")[0])
            if option is None:
                return f"{program} has no option {word} there"
            if not getattr(option, "is_flag", False) and "=" not in word:
                next(rest, None)
        elif isinstance(command, click.Group):
            verb = command.get_command(click.Context(command), word)
            if verb is None:
                return f"{program} has no verb {word}"
            command = verb
            options |= _options(command)
    return ""


def _options(command: click.Command) -> dict[str, click.Parameter]:
    parameters = command.get_params(click.Context(command))
    return {
        name: one for one in parameters for name in (*one.opts, *one.secondary_opts) if name.startswith("-")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_shown_exists(page: Path) -> None:
    """What a page tells its reader to type is a target, or a verb with options that it has."""
    wrong = [
        f"{shlex.join(words)}: {wrong_with(words)}"
        for words in commands(page.read_text())
        if wrong_with(words)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "make walk",
        "pitbossctl dance",
        "pitbossctl drain jobs --softly",
        "pitbossd fly",
        ".venv/bin/pitbossd run --x",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    """A target, verb or option that is not there is reported."""
    assert wrong_with(shlex.split(line))


@pytest.mark.parametrize(
    "line",
    ["make run", "make sim SEED=3", "pitbossctl drain jobs", "pitbossctl --socket /x/y.sock status", "ls -l"],
)
def test_a_command_that_exists_is_let_pass(line: str) -> None:
    """Ours that exist, and those of others, are not reported."""
    assert wrong_with(shlex.split(line)) == ""


def unknown_metrics(text: str) -> set[str]:
    """The metric names of a text that the daemon does not export."""
    parts = {"_bucket", "_sum", "_count"}
    names = set(re.findall(r"\bpitboss_[a-z_]+[a-z]", text))
    known = METRICS | {name + part for name in METRICS for part in parts}
    return names - known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_metric_shown_exists(page: Path) -> None:
    """An expression that somebody copies into a dashboard finds something."""
    assert unknown_metrics(page.read_text(encoding="utf-8")) == set()


def test_a_metric_that_does_not_exist_is_found() -> None:
    """A misspelt name is reported, a part of a histogram is not."""
    assert unknown_metrics("rate(pitboss_exit_total[5m])") == {"pitboss_exit_total"}
    assert unknown_metrics("pitboss_start_seconds_bucket") == set()


def test_every_module_that_the_makefile_runs_exists() -> None:
    """A target is never a promise for later."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    modules = set(re.findall(r"python -m ((?:tests|docs|supervisor)[\w.]*)", makefile))
    assert modules
    places = {one: ROOT / one.replace(".", "/") for one in modules}
    found = {
        one
        for one, place in places.items()
        if (place / "__main__.py").is_file() or place.with_suffix(".py").is_file()
    }
    assert modules - found == set()
