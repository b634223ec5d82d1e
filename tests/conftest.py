"""What holds for every test: no surroundings leak in, and generated examples do not depend on speed."""

import os

import pytest
from hypothesis import settings

# The machine that runs the tests may be slow or busy; a time limit per example would test that.
settings.register_profile("here", deadline=None)
# Nobody may search for luck in CI: the same examples each time.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

SURROUNDINGS = (
    "PITBOSS_SOCKET",
    "PITBOSS_URL",
    "PITBOSS_TOKEN_FILE",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
)


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test never talks to a daemon that happens to run, nor to the service manager of this machine."""
    for name in SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)
