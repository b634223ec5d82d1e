"""Write the generated pages of `docs/`, or say which of them are stale.

Each module beside this one may hold `OUTPUTS`: a mapping from a path in the repository to a function
that returns the text. A path with a `#name` stands for one region of a page that is written by hand
otherwise: the lines between `<!-- generated name -->` and `<!-- end name -->`. What a page says is
decided in those modules; this one only puts it in its place.

Usage: `python -m docs.generate [--check]`. With `--check` nothing is written, each stale place is
named on a line of its own, and the exit code is 1 if there is one.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent

Outputs = Mapping[str, Callable[[], str]]


def outputs() -> dict[str, Callable[[], str]]:
    """Every place that is generated, with the function that knows its text."""
    found: dict[str, Callable[[], str]] = {}
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem.startswith("_"):
            continue
        module = importlib.import_module(f"docs.generate.{path.stem}")
        own: Outputs = getattr(module, "OUTPUTS", {})
        for place, text in own.items():
            if place in found:
                raise SystemExit(f"cannot generate {place}: two modules claim it, {path.stem} is the second")
            found[place] = text
    return found


def place_in(page: str, name: str, text: str) -> str:
    """The page with the region `name` replaced; raises ValueError if the page has no such region."""
    begin, end = f"<!-- generated {name} -->\n", f"<!-- end {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f'expected the lines "{begin.strip()}" and "{end}", in this order')
    return f"{before}{begin}{text.strip()}\n{end}{after}"


def stale(root: Path = ROOT, wanted: Outputs | None = None) -> Iterator[tuple[str, Path, str]]:
    """The places whose file differs from what would be generated: place, file, and its new text."""
    pages: dict[Path, str] = {}
    for place, render in (outputs() if wanted is None else wanted).items():
        name, _, region = place.partition("#")
        path = root / name
        on_disk = path.read_text(encoding="utf-8") if path.exists() else ""
        current = pages.get(path, on_disk)
        try:
            fresh = place_in(current, region, render()) if region else render().strip() + "\n"
        except ValueError as error:
            raise SystemExit(f"cannot generate {place}: {error}") from error
        pages[path] = fresh
        if fresh != current:
            yield place, path, fresh


def main(arguments: list[str]) -> int:
    """Write what is stale, or with `--check` only name it."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m docs.generate [--check]", file=sys.stderr)
        return 2
    found = list(stale())
    for place, path, text in found:
        if arguments:
            print(f"{place} is stale: run `make docs`")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {place}")
    return 1 if arguments and found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
