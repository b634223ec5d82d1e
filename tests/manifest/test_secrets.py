"""Values of environment files are for the worker and for nobody else."""

import pytest

from supervisor.core.identity import InstanceId
from supervisor.manifest.load import ManifestError
from tests.manifest.conftest import Loader, pools_of

SECRET = "s3cr3t-value"
POOL = "pools: {a: {command: no-such-program, environment_files: [s.env]%s}}"


def test_a_secret_reaches_the_worker_and_no_page(manifest: Loader) -> None:
    """It is in the environment of the launch, and in no repr, dump or warning."""
    loaded = manifest(POOL % "", s__env=f"TOKEN={SECRET}\n")
    launch = loaded.launch(InstanceId("a", 0), 1)
    assert launch.environment["TOKEN"] == SECRET
    shown = [
        repr(loaded),
        str(loaded),
        repr(launch),
        repr(loaded.plan),
        repr(pools_of(loaded.path)),
        pools_of(loaded.path)["a"].model_dump_json(),
        repr(loaded.warnings),
        repr(loaded._launchers),
    ]
    assert [text for text in shown if SECRET in text] == []


@pytest.mark.parametrize(
    "content",
    [
        f"TOKEN={SECRET}\n{SECRET}\n",
        f"{SECRET}=1\n",
        f"TOKEN='{SECRET}\n",
        f"TOKEN='a' {SECRET}\n",
        f"PITBOSS_POOL={SECRET}\n",
        f"TOKEN={SECRET}\nNOTIFY_SOCKET={SECRET}",
    ],
)
def test_a_mistake_in_the_file_does_not_tell_it(manifest: Loader, content: str) -> None:
    """The complaint names the file and the line only."""
    with pytest.raises(ManifestError) as caught:
        manifest(POOL % ", umask: 9", s__env=content)
    assert SECRET not in str(caught.value) + repr(caught.value) + repr(caught.value.problems)
    assert len(caught.value.problems) == 2


def test_a_secret_file_given_as_manifest_is_not_shown(manifest: Loader) -> None:
    """Checking the wrong file does not print it."""
    with pytest.raises(ManifestError) as caught:
        manifest(f"TOKEN={SECRET}\n")
    assert SECRET not in str(caught.value)
