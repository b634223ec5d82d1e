"""The manifest as a model: one class for each block, one line of meaning for each key.

Decides which keys exist, what kind of value each takes, and what holds where nothing is written. The
texts below the keys are the reference (`docs/reference/manifest.md`) and the JSON Schema. What keys
mean beside each other is in `checks`.
"""

from typing import Annotated, Literal

from pydantic import Field

from supervisor.manifest.address_fields import Listen, SocketListen, SocketName, TcpAddress, Url
from supervisor.manifest.block import Block
from supervisor.manifest.fields import (
    POOL_NAME,
    Account,
    Command,
    CountLimit,
    Dependencies,
    EnvironmentFile,
    Header,
    HostName,
    Jitter,
    Owner,
    PlainPath,
    PositiveOctets,
    PositiveSeconds,
    Rate,
    Seconds,
    SignalName,
    SizeLimit,
    TemplatedPath,
    Text,
    Umask,
    url_to_request,
)

MOST_INSTANCES = 1000
"""Instances of one pool."""

MOST_SOCKETS = 16
"""Sockets of one instance."""

Share = Annotated[int, Field(ge=0, le=MOST_INSTANCES)]
Threshold = Annotated[int, Field(ge=1, le=1000)]
ExitCode = Annotated[int, Field(ge=0, le=255)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PresetName = Literal[
    "celery",
    "rq",
    "dramatiq",
    "huey",
    "sidekiq",
    "gunicorn",
    "uvicorn",
    "nginx",
    "php-fpm",
    "puma",
    "postgresql",
    "redis",
    "node",
]


class HttpRequest(Block):
    """An HTTP request; an answer from 200 to 399 passes. A URL alone is the same as `{url: URL}`."""

    url: Url
    """Where to ask; `http://` only. Templates are allowed."""
    method: Method | None = None
    """The method. Default: GET for a probe, POST for `drain.http`."""
    headers: dict[str, Header] = Field(default_factory=dict, max_length=32)
    """Headers to send."""
    unix_socket: TemplatedPath | None = None
    """Connect to this unix socket instead of the host in the URL."""


class Check(Block):
    """A question with a yes or a no; exactly one of the three."""

    http: Annotated[HttpRequest | None, url_to_request] = None
    """An HTTP request that must be answered with 200 to 399."""
    tcp: TcpAddress | None = None
    """A connection that must be accepted; a port alone means 127.0.0.1."""
    exec: Command | None = None
    """A command that must exit with 0, run as the worker's user in its directory and environment."""


class Probe(Check):
    """A question asked again and again."""

    period: PositiveSeconds = 10.0
    """Time between two questions."""
    timeout: PositiveSeconds | None = None
    """How long an answer may take. Default: 1s, or the period where that is shorter."""
    failure_threshold: Threshold = 3
    """This many failures in a row turn the answer to no."""
    success_threshold: Threshold = 1
    """This many successes in a row turn the answer to yes."""
    initial_delay: Seconds = 0.0
    """Time from the start of the process to the first question."""


class Readiness(Probe):
    """May the instance get work? Exactly one of `notify`, `http`, `tcp`, `exec`."""

    notify: bool = False
    """The worker says so itself: `READY=1` by sd_notify."""
    period: PositiveSeconds = 1.0
    """Time between two questions."""


class Socket(Block):
    """A listening socket that pitbossd opens once and hands to every worker of the pool (`LISTEN_FDS`)."""

    name: SocketName
    """What the worker knows it by: its name in `LISTEN_FDNAMES`, once in a pool."""
    listen: SocketListen
    """A numeric address and a port, a port alone on 127.0.0.1, or `unix:` and a path. Templates are allowed:
    where `index` makes a difference, each instance has a socket of its own."""
    backlog: Annotated[int, Field(ge=1, le=65535)] = 4096
    """Connections that may wait to be accepted; the kernel allows no more than `net.core.somaxconn`."""
    mode: Umask | None = None
    """File mode of a unix socket, octal. Default: 0660."""
    owner: Owner | None = None
    """Whose a unix socket is. Default: the user and group that the pool runs as."""


class Startup(Block):
    """How long a start may take."""

    timeout: PositiveSeconds = 60.0
    """Not ready by then: a staged stop, counted as a failed start."""
    min_uptime: Seconds = 1.0
    """A worker without `readiness` counts as ready once it has been up for this long."""


class BackoffRules(Block):
    """The wait before the n-th start in a row that failed: `initial * factor ** (n - 1)`, at most `max`."""

    initial: Seconds = 0.5
    """The first wait."""
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """Each wait is this many times the one before."""
    max: Seconds = 60.0
    """The longest wait."""
    jitter: Jitter = 1.0
    """How much of the wait is drawn by lot, so that workers which fell together do not rise together."""
    reset_after: Seconds = 60.0
    """A worker that was up for this long has made good: the next wait is `initial` again."""


class GiveUpRules(Block):
    """When to stop trying."""

    starts: Annotated[int, Field(ge=1, le=10000)]
    """This many starts ..."""
    within: PositiveSeconds
    """... within this time put the instance into phase `failed`."""


class Restart(Block):
    """Which exits are followed by a new start, and how fast."""

    policy: Literal["always", "on-failure", "never"] | None = None
    """Which exits. Default: always; on-failure for a task."""
    backoff: BackoffRules = Field(default_factory=BackoffRules)
    """How long to wait."""
    give_up: GiveUpRules | None = None
    """When to stop trying. Default: never, a crash loop is loud and goes on at the longest wait."""
    permanent_exit_codes: list[ExitCode] = Field(default_factory=list)
    """Exit codes that are not worth another try: straight to phase `failed`."""


class Drain(Block):
    """How a worker is told to take nothing new; at most one of `signal`, `http`, `exec`, `notify`."""

    signal: SignalName | None = None
    """A signal to the main process."""
    http: Annotated[HttpRequest | None, url_to_request] = None
    """An HTTP request, POST unless it says otherwise."""
    exec: Command | None = None
    """A command, run as the worker's user in its directory and environment."""
    notify: bool = False
    """Nothing is sent; the worker says when it is drained (`X_PITBOSS_DRAINED=1`, `X_PITBOSS_INFLIGHT=0`)."""
    until: Check | None = None
    """Drained as soon as this passes; also as soon as the worker says so or exits."""
    settle: Seconds = 0.0
    """Unready first, for this long, before anything is asked: load balancers need time."""
    window: Seconds | None = None
    """The longest drain. Default: 30s; 0s where there is nothing to wait for."""


class StageBlock(Block):
    """One rung of the stop ladder."""

    signal: SignalName
    """What is sent, once."""
    target: Literal["main", "all"] = "main"
    """To the main process, or to everything of its tree that is left."""
    grace: PositiveSeconds
    """How long the rung lasts at most."""


class Extend(Block):
    """How much more time a worker may ask for (`EXTEND_TIMEOUT_USEC`)."""

    step: Seconds = 60.0
    """At most this much with one message."""
    total: Seconds = 120.0
    """At most this much in one stop; 0s grants nothing."""


class Stop(Block):
    """The stop ladder; SIGKILL to the whole tree is always the last rung. `stages` or `preset`, not both."""

    stages: list[StageBlock] | None = Field(default=None, min_length=1, max_length=10)
    """The rungs. Default: SIGTERM to main for 25s, SIGTERM to all for 5s."""
    preset: PresetName | None = None
    """A ladder that fits a well-known worker; see the table of presets."""
    extend: Extend = Field(default_factory=Extend)
    """The ceiling for a worker's own wishes."""


class Rollout(Block):
    """How a pool is replaced without losing capacity."""

    max_unavailable: Share = 1
    """At most this many instances are unready by the rollout's own doing; 0 needs `max_surge`."""
    max_surge: Share = 0
    """At most this many extra instances live during a rollout: they are ready before an old one drains."""
    min_ready: Seconds = 5.0
    """The next turn begins when the replacement has been ready for this long."""
    progress_deadline: PositiveSeconds = 600.0
    """A turn that takes longer halts the rollout."""
    on_failure: Literal["halt"] = "halt"
    """What a failed turn does; only halt is supported."""


class Limits(Block):
    """Resource limits (setrlimit(2)) of the worker: `soft:hard`, or one value for both."""

    nofile: CountLimit | None = None
    """Open descriptors. Default: the daemon's, for every limit."""
    nproc: CountLimit | None = None
    """Processes and threads of the worker's user."""
    core: SizeLimit | None = None
    """Size of a core dump; 0 for none."""
    memlock: SizeLimit | None = None
    """Memory that may be locked."""
    stack: SizeLimit | None = None
    """Size of the stack."""
    data: SizeLimit | None = None
    """Size of the data segment."""
    address_space: SizeLimit | None = Field(default=None, alias="as")
    """Size of the address space."""
    fsize: SizeLimit | None = None
    """Size of a file that it may write."""


class Logs(Block):
    """Where the output goes: `<pool>-<index>.log` in one directory, rotated by size."""

    directory: TemplatedPath | None = None
    """The directory. Default: `logs` in the state directory."""
    max_bytes: PositiveOctets = 50 * 1024 * 1024
    """A file that grows beyond this is rotated."""
    keep: Annotated[int, Field(ge=0, le=1000)] = 5
    """Rotated files that are kept."""
    format: Literal["raw", "timestamp", "json"] = "raw"
    """As it came, each line with its time, or each line as a JSON object."""
    rate_limit: Rate | None = None
    """Bytes per second (`1MiB` or `1MiB/s`); what is above is dropped and counted. Default: no limit."""


class Defaults(Block):
    """What holds for every pool that does not say otherwise: any key of a pool."""

    command: Command | None = None
    """What to run: a list, or a string that is split as a shell would (no shell is run)."""
    instances: Annotated[int, Field(ge=0, le=MOST_INSTANCES)] = 1
    """How many identical instances."""
    kind: Literal["service", "task"] = "service"
    """A service runs until told otherwise; a task runs to completion, once per boot."""
    critical: bool = True
    """false: its trouble shows in `/health` but does not turn `/readyz`."""
    user: Account | None = None
    """Whom it runs as. Default: the daemon's own user."""
    group: Account | None = None
    """Its group. Default: the user's."""
    groups: list[Account] | None = Field(default=None, max_length=1000)
    """Its supplementary groups, exactly these. Default: those of the user in the group database."""
    working_directory: TemplatedPath | None = None
    """Where it runs. Default: the directory of the manifest."""
    umask: Umask | None = None
    """Its file mode mask, octal. Default: the daemon's."""
    nice: Annotated[int, Field(ge=-20, le=19)] | None = None
    """Its niceness. Default: the daemon's."""
    oom_score_adjust: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    """How gladly the kernel kills it when memory runs out. Default: the daemon's."""
    environment: dict[str, Text] = Field(default_factory=dict)
    """Variables, on top of the clean base and of `environment_files`."""
    environment_files: list[EnvironmentFile] = Field(default_factory=list, max_length=32)
    """Files with `NAME=value` lines; a leading `-` allows the file to be missing."""
    sockets: list[Socket] = Field(default_factory=list, max_length=MOST_SOCKETS)
    """Sockets that outlive every restart: opened before the first worker starts, closed after the last."""
    depends_on: Dependencies = Field(default_factory=dict)
    """Pools that must be so far before this one starts; a list of names means ready."""
    startup: Startup = Field(default_factory=Startup)
    """How long a start may take."""
    readiness: Readiness | None = None
    """Who says that it is ready. Default: it is once it has been up for `startup.min_uptime`."""
    liveness: Probe | None = None
    """A probe that means a staged stop and a restart when it fails."""
    watchdog: PositiveSeconds | None = None
    """The worker must say `WATCHDOG=1` this often. Default: it need not."""
    restart: Restart = Field(default_factory=Restart)
    """Which exits are followed by a new start, and how fast."""
    drain: Drain | None = None
    """How it is told to take nothing new. Default: it is not; the stop ladder begins at once."""
    stop: Stop = Field(default_factory=Stop)
    """The stop ladder."""
    rollout: Rollout = Field(default_factory=Rollout)
    """How the pool is replaced without losing capacity."""
    limits: Limits = Field(default_factory=Limits)
    """Resource limits."""
    logs: Logs = Field(default_factory=Logs)
    """Where the output goes."""


class Pool(Defaults):
    """A named set of identical instances."""

    command: Command
    """What to run: a list, or a string that is split as a shell would (no shell is run)."""


class Control(Block):
    """Where the control plane listens."""

    unix: PlainPath | None = None
    """The unix socket. Default: `control.sock` in the runtime directory."""
    http: Listen | None = None
    """A TCP address for `/livez`, `/readyz`, `/health` and `/metrics`. Default: none."""


class Shutdown(Block):
    """The end of the whole host."""

    deadline: PositiveSeconds = 300.0
    """All windows are fitted into this; the kill rung keeps its share."""


class Head(Block):
    """What holds for the whole host."""

    version: Literal[1] = 1
    """The version of this format."""
    include: list[PlainPath] = Field(default_factory=list, max_length=256)
    """Further files or patterns such as `conf.d/*.yaml`, relative to the file that says so."""
    name: HostName | None = None
    """The name that is shown everywhere. Default: the host name."""
    state_directory: PlainPath | None = None
    """Journal and logs. Default: `/var/lib/pitboss`; without root `pitboss` in the XDG state directory."""
    runtime_directory: PlainPath | None = None
    """Sockets. Default: `/run/pitboss`; without root `pitboss` in `$XDG_RUNTIME_DIR`, or in `/tmp`."""
    control: Control = Field(default_factory=Control)
    """Where the control plane listens."""
    shutdown: Shutdown = Field(default_factory=Shutdown)
    """The end of the whole host."""


class Document(Head):
    """A manifest."""

    defaults: Defaults = Field(default_factory=Defaults)
    """What holds for every pool that does not say otherwise: any key of a pool."""
    pools: dict[Annotated[str, Field(pattern=POOL_NAME)], Pool]
    """The pools by their names (letters, digits, `_`, `.` and `-`; at most 63)."""
