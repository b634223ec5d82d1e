"""Where is the daemon: which socket or URL a client talks to, and why the other places were no good.

Decides the order in which places are tried and what is trusted; it sends no request. A place that was
named (an argument or the environment) is the only one tried: falling back to another daemon than the
one that was asked for would be worse than failing.
"""

import os
import socket
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from supervisor.client.errors import NotPermitted, Unreachable

CONNECT_TIMEOUT_SECONDS = 5.0
"""How long a daemon may take to accept a connection; it accepts within milliseconds unless it hangs."""

_MISSING = "there is no such socket"
_START_HINT = (
    "Is pitbossd running? If it is, SIGUSR1 makes it put back a socket that was removed. Another place is "
    "named with --socket PATH or --url URL."
)


@dataclass(frozen=True, slots=True)
class Address:
    """A daemon's address: `socket` is a path, or else `url` is "http://host:port"."""

    socket: str | None = None
    url: str | None = None

    def __str__(self) -> str:
        return self.socket or self.url or ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: str
    ours_only: bool = False


def locate(
    socket_path: str | None = None, url: str | None = None, environ: Mapping[str, str] | None = None
) -> Address:
    """The address of the daemon.

    In this order: the arguments; `PITBOSS_SOCKET`, `PITBOSS_URL`; then the first of
    `$XDG_RUNTIME_DIR/pitboss/control.sock`, `/tmp/pitboss-<uid>/control.sock` (only if it belongs to
    us or to root) and `/run/pitboss/control.sock` that answers.

    Raises `Unreachable` with every place and its reason, or `NotPermitted` if a daemon is there but
    the socket's permissions keep us out.
    """
    environ = os.environ if environ is None else environ
    if socket_path and url:
        raise Unreachable("cannot use both a socket and a URL: name one of them")
    if not socket_path and not url:
        socket_path = environ.get("PITBOSS_SOCKET")
        url = None if socket_path else environ.get("PITBOSS_URL")
    if url:
        return Address(url=_checked_url(url))
    if socket_path:
        return _first_that_answers([_Candidate(socket_path)])
    return _first_that_answers(list(_usual_places(environ)))


def _checked_url(url: str) -> str:
    if not url.startswith(("http://", "https://")) or url in {"http://", "https://"}:
        raise Unreachable(f'cannot use the URL "{url}": expected http://HOST:PORT or https://HOST:PORT')
    return url.rstrip("/")


def _usual_places(environ: Mapping[str, str]) -> Iterator[_Candidate]:
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield _Candidate(str(Path(runtime) / "pitboss" / "control.sock"))
    # Anyone may create names in /tmp: a socket there is only trusted by its owner.
    yield _Candidate(f"/tmp/pitboss-{os.getuid()}/control.sock", ours_only=True)  # noqa: S108
    yield _Candidate("/run/pitboss/control.sock")


def _first_that_answers(candidates: list[_Candidate]) -> Address:
    attempts: list[tuple[str, str]] = []
    denied: str | None = None
    for candidate in candidates:
        reason, is_denial = _try(candidate)
        if reason is None:
            return Address(socket=candidate.path)
        attempts.append((candidate.path, reason))
        if is_denial and denied is None:
            denied = f"cannot connect to {candidate.path}: {reason}"
    if denied is not None:
        raise NotPermitted(denied, "Run it as root, or join the group that owns the socket.")
    if len(attempts) == 1:
        path, reason = attempts[0]
        raise Unreachable(f"cannot reach pitbossd at {path}: {reason}", _START_HINT, attempts)
    tried = "".join(f"\n  {path}: {reason}" for path, reason in attempts)
    raise Unreachable(f"cannot reach pitbossd, tried{tried}", _START_HINT, attempts)


def _try(candidate: _Candidate) -> tuple[str | None, bool]:
    """Connect and hang up: None, or why not; and whether permissions were the reason."""
    path = candidate.path
    try:
        found = os.stat(path)
        if not stat.S_ISSOCK(found.st_mode):
            return "it is not a socket", False
        if candidate.ours_only and not _is_ours(path, found):
            return "it belongs to another user, so it is not trusted", False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            probe.settimeout(CONNECT_TIMEOUT_SECONDS)
            probe.connect(path)
    except FileNotFoundError:
        return _MISSING, False
    except PermissionError:
        return f"permission denied{_owner(path)}", True
    except ConnectionRefusedError:
        return "nothing listens on it any more (a stale socket, is pitbossd running?)", False
    except TimeoutError:
        return f"it did not accept a connection within {CONNECT_TIMEOUT_SECONDS:g} s", False
    except OSError as error:
        return error.strerror or str(error), False
    return None, False


def _is_ours(path: str, found: os.stat_result) -> bool:
    trusted = {0, os.getuid()}
    folder = os.lstat(os.path.dirname(path))
    return found.st_uid in trusted and folder.st_uid in trusted and stat.S_ISDIR(folder.st_mode)


def _owner(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f" (owner {found.st_uid}:{found.st_gid}, mode {stat.S_IMODE(found.st_mode):04o})"
