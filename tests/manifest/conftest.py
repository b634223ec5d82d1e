"""What the manifest tests share: a manifest from text, and its complaints as short lines."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from supervisor.manifest.draft import draft
from supervisor.manifest.load import Manifest, ManifestError, load
from supervisor.manifest.machine import Machine
from supervisor.manifest.merge import gather
from supervisor.manifest.model import Pool
from supervisor.manifest.problems import Problems

Loader = Callable[..., Manifest]
Complainer = Callable[..., list[str]]


def pools_of(path: Path) -> dict[str, Pool]:
    """What a valid manifest says of its pools, once files and defaults are merged."""
    problems = Problems(str(path))
    root, _ = gather(path, problems)
    assert root is not None
    pools = {name: pool.settings for name, pool in draft(root, problems).pools.items()}
    problems.raise_if_any()
    return pools


@pytest.fixture
def machine() -> Machine:
    """A daemon that runs as root with an environment that never changes."""
    return Machine(0, 0, "testhost", {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "SECRET_OF_DAEMON": "x"})


@pytest.fixture
def manifest(tmp_path: Path, machine: Machine) -> Loader:
    """Loads a manifest from text; further files by name."""

    def make(text: str, *, on: Machine = machine, **files: str) -> Manifest:
        for name, content in files.items():
            (tmp_path / name.replace("__", ".")).write_text(dedent(content), encoding="utf-8")
        path = tmp_path / "m.yaml"
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return load(path, machine=on)

    return make


@pytest.fixture
def complaints(manifest: Loader, tmp_path: Path) -> Complainer:
    """The problems of a manifest, one line each, without the directory of the files."""

    def make(text: str, **options: object) -> list[str]:
        with pytest.raises(ManifestError) as caught:
            manifest(text, **options)
        return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return make
