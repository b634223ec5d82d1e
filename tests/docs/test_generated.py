"""The generated parts of `docs/` are what the code says today."""

from pathlib import Path

import pytest

from docs.generate.__main__ import outputs, place_in, stale


def test_no_generated_page_is_stale() -> None:
    """What is written in docs/ equals what would be generated now; `make docs` repairs it."""
    assert [place for place, _, _ in stale()] == []


def test_something_is_generated() -> None:
    """The life cycle is drawn by the code, not by hand."""
    assert any(place.startswith("docs/explanation/life-cycle.md") for place in outputs())


def test_a_stale_page_is_named(tmp_path: Path) -> None:
    """A page that differs by one word is reported, with the text it should have."""
    (tmp_path / "page.md").write_text("old\n")
    found = list(stale(tmp_path, {"page.md": lambda: "new"}))
    assert found == [("page.md", tmp_path / "page.md", "new\n")]
    (tmp_path / "page.md").write_text("new\n")
    assert list(stale(tmp_path, {"page.md": lambda: "new"})) == []


def test_a_region_leaves_the_rest_of_its_page_alone() -> None:
    """Only the lines between the two markers change."""
    page = "by hand\n<!-- generated map -->\nold\n<!-- end map -->\nby hand too\n"
    assert place_in(page, "map", "new\n") == page.replace("old", "new")


def test_two_regions_of_one_page_are_both_written(tmp_path: Path) -> None:
    """The second region is placed into the page that already has the first."""
    page = "<!-- generated a -->\n<!-- end a -->\n<!-- generated b -->\n<!-- end b -->\n"
    (tmp_path / "page.md").write_text(page)
    for _, path, text in list(stale(tmp_path, {"page.md#a": lambda: "one", "page.md#b": lambda: "two"})):
        path.write_text(text)
    assert (tmp_path / "page.md").read_text() == page.replace(
        "<!-- generated a -->\n", "<!-- generated a -->\none\n"
    ).replace("<!-- generated b -->\n", "<!-- generated b -->\ntwo\n")


def test_a_page_without_its_markers_is_refused() -> None:
    """A lost marker is an error that says which lines were expected."""
    with pytest.raises(ValueError, match="<!-- generated map -->"):
        place_in("by hand\n", "map", "new")
