"""What one generation of an instance looks like.

Decides the command, the environment, the directories and the probes of each generation. Templates
were read when the manifest was loaded, and `trouble` has rendered all of them once: `launch` does not
fail, asks nobody and reads no file. It is part of what a running daemon holds: it knows no model.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from supervisor.core.launch import CheckTarget, ExecCheck, HttpCheck, Launch, TcpCheck
from supervisor.manifest.addresses import host_port, http_url
from supervisor.manifest.socket_template import SocketTemplate
from supervisor.manifest.templates import LATE_GENERATION, Scope, Template


class Environment(dict[str, str]):
    """The variables of a worker. Its repr names none of their values: some are secret."""

    def __repr__(self) -> str:
        return f"<environment of {len(self)} variables>"


@dataclass(frozen=True, slots=True)
class Check:
    """A check before its templates are filled in. All but the first two are those of an HTTP check.

    A relative path of a unix socket is taken from `directory`.
    """

    kind: Literal["http", "tcp", "exec"]
    words: tuple[Template, ...]
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    unix_socket: Template | None = None
    directory: str = "/"

    def at(self, scope: Scope) -> CheckTarget:
        """The check of one generation."""
        first = self.words[0].render(scope)
        if self.kind == "exec":
            return ExecCheck(tuple(word.render(scope) for word in self.words))
        if self.kind == "tcp":
            host, port = host_port(first)
            return TcpCheck(host, port)
        if self.unix_socket is None:
            return HttpCheck(first, self.method, self.headers)
        path = os.path.join(self.directory, self.unix_socket.render(scope))
        return HttpCheck(first, self.method, self.headers, path)

    def validate(self, scope: Scope) -> None:
        """Raise `ValueError` where the address makes no sense for this generation."""
        if self.kind == "http":
            http_url(self.words[0].render(scope))
        elif self.kind == "tcp":
            host_port(self.words[0].render(scope))


@dataclass(frozen=True, slots=True)
class Launcher:
    """Renders the generations of one pool.

    `base` is everything of the environment that never differs, and `pattern` a launch with everything
    else that never differs; its other fields are filled in for each generation.
    """

    pool: str
    revision: str
    directory: str
    log_directory: Template
    command: tuple[Template, ...]
    working_directory: Template
    base: Mapping[str, str] = field(repr=False)
    varying: tuple[tuple[str, Template], ...] = field(repr=False)
    checks: Mapping[str, Check] = field(repr=False)
    pattern: Launch = field(repr=False)
    sockets: tuple[SocketTemplate, ...] = ()

    def launch(self, index: int, generation: int) -> Launch:
        """Everything that is needed to start one generation."""
        scope = Scope(self.pool, index, generation)
        checks = {name: check.at(scope) for name, check in self.checks.items()}
        return replace(
            self.pattern,
            argv=tuple(word.render(scope) for word in self.command),
            environment=self.environment(scope),
            working_directory=self._absolute(self.working_directory.render(scope)),
            logs=replace(self.pattern.logs, directory=self._absolute(self.log_directory.render(scope))),
            readiness=checks.get("readiness"),
            liveness=checks.get("liveness"),
            drain=checks.get("drain"),
            until=checks.get("until"),
            sockets=tuple(socket.at(scope) for socket in self.sockets),
        )

    def environment(self, scope: Scope) -> Environment:
        """The variables of one generation."""
        environment = Environment(self.base)
        for name, template in self.varying:
            environment[name] = template.render(scope)
        environment["PITBOSS_POOL"] = self.pool
        environment["PITBOSS_INSTANCE"] = scope.instance
        environment["PITBOSS_INDEX"] = str(scope.index)
        environment["PITBOSS_GENERATION"] = str(scope.generation)
        environment["PITBOSS_REVISION"] = self.revision
        return environment

    def trouble(self, instances: int) -> Iterator[tuple[str, str]]:
        """The checks whose address is wrong for some instance, each with the sentence that says so."""
        for name, check in self.checks.items():
            if check.kind == "exec" or check.words[0].constant:
                continue
            for index in range(instances):
                error = _first_error(check, self.pool, index)
                if error is not None:
                    yield name, error
                    break

    def _absolute(self, path: str) -> str:
        return _absolute(self.directory, path)


# All instances of a pool have the same directories, as a rule.
@lru_cache(maxsize=64)
def _absolute(directory: str, path: str) -> str:
    return os.path.normpath(os.path.join(directory, path))


def _first_error(check: Check, pool: str, index: int) -> str | None:
    for generation in (1, LATE_GENERATION):
        scope = Scope(pool, index, generation)
        try:
            check.validate(scope)
        except ValueError as error:
            whose = scope.instance if generation == 1 else f"{scope.instance} in generation {generation}"
            return f'{error}, found "{check.words[0].render(scope)[:60]}" for {whose}'
    return None
