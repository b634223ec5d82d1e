"""A daemon for a test, ended with it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.daemon import Daemon


@pytest.fixture
def daemon() -> Iterator[Callable[..., Daemon]]:
    """Make and start daemons; all of them are ended when the test is over."""
    made: list[Daemon] = []

    def make(manifest: Mapping[str, Any], *, start: bool = True, **options: Any) -> Daemon:
        one = Daemon(manifest, **options)
        made.append(one)
        return one.start() if start else one

    yield make
    for one in made:
        one.close()
