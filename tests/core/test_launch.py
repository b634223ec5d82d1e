"""What a generation looks like to the machine: values that nobody changes under way."""

from dataclasses import FrozenInstanceError

import pytest

from supervisor.core.launch import (
    ExecCheck,
    HttpCheck,
    Identity,
    Launch,
    LogFormat,
    LogPolicy,
    TcpCheck,
    TcpListen,
    UnixListen,
)

LAUNCH = Launch(("./worker",), {"PORT": "8000"}, "/srv", LogPolicy(None))


def test_what_was_not_declared_changes_nothing() -> None:
    """No identity, no limits, no checks: the daemon's own, and nothing asked."""
    assert LAUNCH.identity is None
    assert dict(LAUNCH.limits) == {}
    assert (LAUNCH.readiness, LAUNCH.liveness, LAUNCH.drain, LAUNCH.until) == (None,) * 4
    assert (LAUNCH.umask, LAUNCH.nice, LAUNCH.oom_score_adjust, LAUNCH.watchdog_seconds) == (None,) * 4


def test_output_is_kept_in_bounds_without_being_asked() -> None:
    """Six files of 50 MiB as they came, and nothing is dropped."""
    logs = LogPolicy("/var/log")
    assert (logs.max_bytes, logs.keep, logs.format) == (52_428_800, 5, LogFormat.RAW)
    assert logs.rate_limit_bytes is None


def test_two_pools_share_no_limits() -> None:
    """Each has a table of its own."""
    assert LAUNCH.limits is not Launch(("x",), {}, "/", LogPolicy(None)).limits


@pytest.mark.parametrize(
    "value",
    [LAUNCH, Identity("shop", 1, 1, ()), HttpCheck("http://x"), TcpCheck("x", 1), ExecCheck(("x",))],
    ids=lambda value: type(value).__name__,
)
def test_nothing_is_changed_under_way(value: object) -> None:
    """A generation ends as what it was started as."""
    with pytest.raises(FrozenInstanceError):
        setattr(value, next(iter(type(value).__annotations__)), None)


def test_an_address_is_written_as_one_types_it() -> None:
    """An IPv6 address stands in brackets, so that its port can be told from it; a path says what it is."""
    assert str(TcpListen("127.0.0.1", 8000)) == "127.0.0.1:8000"
    assert str(TcpListen("::1", 8000)) == "[::1]:8000"
    assert str(UnixListen("/run/x.sock")) == "unix:/run/x.sock"
