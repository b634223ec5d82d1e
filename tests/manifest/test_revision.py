"""When a pool counts as changed."""

import re

import pytest

from tests.manifest.conftest import Loader

BASE = "pools: {a: {command: x, environment: {A: '1', B: '2'}, environment_files: [s.env], instances: 2}}"


def revision(manifest: Loader, text: str = BASE, secret: str = "K=1\n") -> str:
    """The revision of the pool `a`."""
    return manifest(text, s__env=secret).plan.pools["a"].revision


def test_the_same_text_is_the_same_revision(manifest: Loader) -> None:
    """Spelling, order of variables and other pools change nothing; neither does the number of instances."""
    first = revision(manifest)
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert revision(manifest) == first
    for same in (
        BASE.replace("instances: 2", "instances: 9"),
        BASE.replace("A: '1', B: '2'", "B: '2', A: 1"),
        BASE.replace("command: x", "command: [x], startup: {timeout: 1m}"),
        BASE.replace("pools: {", "pools: {other: {command: y}, "),
    ):
        assert revision(manifest, same) == first


@pytest.mark.parametrize(
    "other",
    [
        BASE.replace("command: x", "command: y"),
        BASE.replace("'1'", "'3'"),
        BASE.replace("command: x", "command: x, umask: 0027"),
        BASE.replace("command: x", "command: x, user: nobody"),
        "state_directory: elsewhere\n" + BASE,
    ],
)
def test_another_definition_is_another_revision(manifest: Loader, other: str) -> None:
    """Whatever a generation is started from counts."""
    assert revision(manifest, other) != revision(manifest)


def test_the_contents_of_environment_files_count(manifest: Loader) -> None:
    """A rotated secret is a change, a comment is not."""
    first = revision(manifest)
    assert revision(manifest, secret="K=2\n") != first
    assert revision(manifest, secret="# new\nK=1\n") == first
