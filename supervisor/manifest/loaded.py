"""What a daemon holds of its manifest, once that was read.

It renders launches and decides nothing. Neither this module nor what it imports knows the model, YAML
or where anything was written: the manifest was read before the daemon began, and comes out of a pickle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.core.identity import InstanceId
from supervisor.core.launch import Launch
from supervisor.core.plan import HostPlan
from supervisor.manifest.launcher import Launcher
from supervisor.manifest.problems import Problem
from supervisor.manifest.relations import worst_case_shutdown_seconds


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """Where the control plane listens: a unix socket, and a TCP address or None."""

    unix: Path
    http: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that can be used. Values of environment files are in no field that is shown or dumped."""

    path: Path
    name: str
    state_directory: Path
    runtime_directory: Path
    control: ControlSettings
    plan: HostPlan
    warnings: tuple[Problem, ...]
    _launchers: Mapping[str, Launcher] = field(repr=False, compare=False)

    def launch(self, instance: InstanceId, generation: int) -> Launch:
        """What one generation looks like. Raises `KeyError` for a pool that is not of this manifest."""
        return self._launchers[instance.pool].launch(instance.index, generation)

    @property
    def worst_case_shutdown_seconds(self) -> float:
        """How long the host may take to stop without extensions, seconds."""
        return worst_case_shutdown_seconds(self.plan)
