"""The programs of Prometheus that tests need."""

import os
import shutil

import pytest


def program(name: str) -> str:
    """Where it is; without it the test is skipped, but never in CI."""
    found = shutil.which(name)
    if found is None:
        assert "CI" not in os.environ, f"{name} is missing: .ci/run installs it"
        pytest.skip(f"{name} is not installed")
    return found
