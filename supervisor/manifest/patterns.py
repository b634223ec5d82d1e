"""From the model of a pool to its checks, and to what all its launches have in common.

Decides what a default means for a process; it checks nothing, `checks` did. What differs between
generations is filled in by `launcher`.
"""

from supervisor.core.launch import Identity, Launch, LogFormat, LogPolicy
from supervisor.manifest import model
from supervisor.manifest.launcher import Check
from supervisor.manifest.templates import parse


def launch_pattern(pool: model.Pool, identity: Identity | None) -> Launch:
    """A launch without all that depends on the generation: command, environment, directories and checks."""
    logs = pool.logs
    return Launch(
        argv=(),
        environment={},
        working_directory="",
        logs=LogPolicy(None, logs.max_bytes, logs.keep, LogFormat(logs.format), logs.rate_limit),
        identity=identity,
        umask=pool.umask,
        nice=pool.nice,
        oom_score_adjust=pool.oom_score_adjust,
        limits=limits(pool.limits),
        watchdog_seconds=pool.watchdog,
    )


def checks_of(pool: model.Pool, directory: str) -> dict[str, Check]:
    """The checks that a pool asks for: readiness, liveness, drain and until.

    A relative path of a unix socket is taken from `directory`.
    """
    drain = pool.drain
    blocks = {
        "readiness": pool.readiness,
        "liveness": pool.liveness,
        "drain": drain,
        "until": drain.until if drain else None,
    }
    checks: dict[str, Check] = {}
    for name, block in blocks.items():
        if block is None:
            continue
        if block.http is not None:
            checks[name] = _http(block.http, "POST" if name == "drain" else "GET", directory)
        elif not isinstance(block, model.Drain) and block.tcp is not None:
            checks[name] = Check("tcp", (parse(block.tcp),))
        elif block.exec is not None:
            checks[name] = Check("exec", tuple(parse(word) for word in block.exec))
    return checks


def limits(block: model.Limits) -> dict[str, tuple[int, int]]:
    """Resource limits by their name in `resource`, without the prefix."""
    named = {
        "NOFILE": block.nofile,
        "NPROC": block.nproc,
        "CORE": block.core,
        "MEMLOCK": block.memlock,
        "STACK": block.stack,
        "DATA": block.data,
        "AS": block.address_space,
        "FSIZE": block.fsize,
    }
    return {name: value for name, value in named.items() if value is not None}


def _http(request: model.HttpRequest, method: str, directory: str) -> Check:
    return Check(
        "http",
        (parse(request.url),),
        request.method or method,
        dict(request.headers),
        None if request.unix_socket is None else parse(request.unix_socket),
        directory,
    )
