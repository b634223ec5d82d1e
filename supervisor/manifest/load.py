"""The way in: a path to a manifest, or to every reason why there is none.

Decides the order in which a manifest is read and checked. What each step means is in the module of
that step.
"""

import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from supervisor.core.launch import Identity
from supervisor.core.plan import HostPlan, PoolPlan
from supervisor.manifest import envfiles
from supervisor.manifest.addresses import SOCKET_PATH_BYTES
from supervisor.manifest.checks import check_pool
from supervisor.manifest.draft import Draft, PoolDraft, draft
from supervisor.manifest.host import check_relations, warn
from supervisor.manifest.launcher import Environment, Launcher
from supervisor.manifest.loaded import ControlSettings, Manifest
from supervisor.manifest.machine import AccountError, Machine
from supervisor.manifest.merge import gather
from supervisor.manifest.nodes import place_of
from supervisor.manifest.patterns import checks_of, launch_pattern
from supervisor.manifest.problems import ManifestError, Place, Problem, Problems, dotted, quoted_path
from supervisor.manifest.sockets import Claims, sockets_of
from supervisor.manifest.templates import constant, parse
from supervisor.manifest.translate import pool_plan, revision, stop_budget_seconds

__all__ = ["Manifest", "ManifestError", "Problem", "load"]


def load(path: str | Path, *, machine: Machine | None = None) -> Manifest:
    """Read a manifest, all that it includes, and its environment files.

    `machine` is this one unless a caller wants to know about another.

    Raises:
        ManifestError: It cannot be used; the error holds every problem that was found.
    """
    problems = Problems(os.fspath(path))
    root, complete = gather(Path(path), problems)
    if root is None:
        problems.raise_if_any()
        raise AssertionError("a manifest without a root has a problem")
    reading = draft(root, problems)
    reading.whole = reading.whole and complete
    check_relations(reading, problems)
    building = _Building(Path(path), machine or Machine.here(), reading, problems)
    for pool in reading.pools.values():
        check_pool(pool, building.machine, problems)
        building.prepare(pool)
    control = building.control()
    building.claim_addresses(control)
    problems.raise_if_any()
    return building.finish(control)


@dataclass(slots=True)
class _Building:
    """Collects what the pools need from the machine, then puts the manifest together."""

    path: Path
    machine: Machine
    reading: Draft
    problems: Problems
    plans: dict[str, PoolPlan] = field(default_factory=dict)
    launchers: dict[str, Launcher] = field(default_factory=dict)
    files: dict[str, tuple[dict[str, str], str]] = field(default_factory=dict)
    accounts: dict[object, Identity | AccountError | None] = field(default_factory=dict)

    @property
    def directory(self) -> str:
        """Where relative paths of the manifest begin."""
        return os.path.dirname(os.path.abspath(self.path))

    def prepare(self, pool: PoolDraft) -> None:
        """Resolve accounts and environment files of one pool, and render it once."""
        identity = self._identity(pool)
        base = self.machine.base_environment(identity)
        hashes: dict[str, str] = {}
        for number, written in enumerate(pool.settings.environment_files):
            variables, digest = self._file(pool, number, written)
            base |= variables
            hashes[written] = digest
        self._assemble(pool, identity, base, hashes)

    def _assemble(
        self, pool: PoolDraft, identity: Identity | None, base: dict[str, str], hashes: dict[str, str]
    ) -> None:
        settings, name, directory = pool.settings, pool.name, self.directory
        templates = {variable: parse(value) for variable, value in settings.environment.items()}
        base |= {variable: one.render_constant() for variable, one in templates.items() if one.constant}
        varying = tuple((variable, one) for variable, one in templates.items() if not one.constant)
        logs = settings.logs.directory
        log_directory = constant(str(self.state_directory / "logs")) if logs is None else parse(logs)
        working = settings.working_directory
        working_directory = constant(directory) if working is None else parse(working)
        places = {"manifest": directory, "logs": log_directory.source}
        tag = revision(settings, places, identity, hashes)
        sockets = sockets_of(pool, identity, directory, self.machine, self.problems)
        plan = pool_plan(name, settings, tag, {one.name: one.shown(name) for one in sockets})
        base["PITBOSS_STOP_BUDGET_USEC"] = str(round(stop_budget_seconds(plan) * 1_000_000))
        launcher = Launcher(
            pool=name,
            revision=tag,
            directory=directory,
            log_directory=log_directory,
            command=tuple(parse(word) for word in settings.command),
            working_directory=working_directory,
            base=Environment(base),
            varying=varying,
            checks=checks_of(settings, directory),
            pattern=launch_pattern(settings, identity),
            sockets=sockets,
        )
        for check, message in launcher.trouble(settings.instances + settings.rollout.max_surge):
            path = ("drain", "until") if check == "until" else (check,)
            kind = launcher.checks[check].kind
            self.problems.add(pool.place_of(*path, kind), dotted(("pools", name, *path, kind)), message)
        self.plans[name], self.launchers[name] = plan, launcher

    def _identity(self, pool: PoolDraft) -> Identity | None:
        settings = pool.settings
        groups = settings.groups
        asked = (settings.user, settings.group, None if groups is None else tuple(groups))
        if asked not in self.accounts:
            try:
                self.accounts[asked] = self.machine.identity(settings.user, settings.group, groups)
            except AccountError as error:
                self.accounts[asked] = error
        answer = self.accounts[asked]
        if isinstance(answer, AccountError):
            path = dotted(("pools", pool.name, answer.key))
            self.problems.add(pool.place_of(answer.key), path, answer.message)
            return None
        return answer

    def _file(self, pool: PoolDraft, number: int, written: str) -> tuple[dict[str, str], str]:
        """The variables of an environment file, and a hash of them."""
        name = os.path.join(self.directory, written.removeprefix("-"))
        if written not in self.files:
            try:
                variables = envfiles.read(Path(name), optional=written.startswith("-"))
            except envfiles.EnvironmentFileError as error:
                where = pool.place_of("environment_files", number)
                path = dotted(("pools", pool.name, "environment_files", number))
                message = error.message
                if message.startswith("cannot read"):
                    message = f"cannot read {quoted_path(name)}: {message.partition(': ')[2]}"
                else:
                    where = Place(name, error.line)
                self.problems.add(where, path, message)
                variables = {}
            digest = sha256(repr(sorted(variables.items())).encode("utf-8", "surrogatepass")).hexdigest()
            self.files[written] = (variables, digest)
        return self.files[written]

    @property
    def state_directory(self) -> Path:
        """Journal and logs."""
        written = self.reading.head.state_directory
        return self.machine.state_directory() if written is None else self._absolute(written)

    @property
    def runtime_directory(self) -> Path:
        """Sockets."""
        written = self.reading.head.runtime_directory
        return self.machine.runtime_directory() if written is None else self._absolute(written)

    def _absolute(self, path: str) -> Path:
        return Path(os.path.normpath(os.path.join(self.directory, path)))

    def control(self) -> ControlSettings:
        """Where the control plane listens; a path that no socket can have is a problem."""
        written = self.reading.head.control
        unix = (
            self.runtime_directory / "control.sock" if written.unix is None else self._absolute(written.unix)
        )
        length = len(os.fsencode(unix))
        if length > SOCKET_PATH_BYTES:
            message = f"expected a path of at most {SOCKET_PATH_BYTES} bytes, found one of {length}"
            self.problems.add(place_of(self.reading.root, ("control", "unix")), "control.unix", message)
        return ControlSettings(unix, written.http)

    def claim_addresses(self, control: ControlSettings) -> None:
        """See that nobody is to listen where somebody else does."""
        claims = Claims(self.problems)
        claims.reserve(control)
        for name, launcher in self.launchers.items():
            claims.check(self.reading.pools[name], launcher.sockets)

    def finish(self, control: ControlSettings) -> Manifest:
        """The manifest, once there are no problems."""
        head = self.reading.head
        name = head.name or self.machine.host_name
        plan = HostPlan(name, self.plans, head.shutdown.deadline)
        warn(self.reading, plan, self.launchers, self.problems)
        return Manifest(
            path=Path(os.path.abspath(self.path)),
            name=name,
            state_directory=self.state_directory,
            runtime_directory=self.runtime_directory,
            control=control,
            plan=plan,
            warnings=tuple(sorted(self.problems.warnings)),
            _launchers=self.launchers,
        )
