"""What can go wrong between a client and the daemon, as exceptions that carry their exit code.

Decides how a failure is worded; it knows neither HTTP nor sockets.
"""

from collections.abc import Sequence

EXIT_NOT_REACHED = 1
"""The goal was not reached."""
EXIT_USAGE = 2
"""The request made no sense: a wrong name, option or value."""
EXIT_UNREACHABLE = 69
"""No daemon answered; EX_UNAVAILABLE of sysexits.h."""
EXIT_NOT_PERMITTED = 77
"""The daemon or the socket refused the caller; EX_NOPERM of sysexits.h."""

USAGE_KINDS = frozenset(
    {
        "bad-request",
        "invalid-body",
        "not-found",
        "unknown-instance",
        "unknown-operation",
        "unknown-pool",
        "unknown-signal",
    }
)
"""Kinds of problem that the caller's own words caused; they exit 2, every other one exits 1."""


class ClientError(Exception):
    """Any failure of a request. `exit_code` is what a command line tool ends with."""

    exit_code = EXIT_NOT_REACHED


class Unreachable(ClientError):  # noqa: N818
    """No daemon answered. `attempts` holds one (place, reason) pair for each place that was tried.

    `hint` says what to do about it, where that is known.
    """

    exit_code = EXIT_UNREACHABLE

    def __init__(
        self, message: str, hint: str | None = None, attempts: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.attempts = tuple(attempts)


class NotPermitted(ClientError):  # noqa: N818
    """The socket's file permissions, or the daemon itself (401, 403), refused the caller."""

    exit_code = EXIT_NOT_PERMITTED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Problem(ClientError):  # noqa: N818
    """The daemon understood the request and said no (RFC 9457).

    `kind` is a stable word such as "unknown-pool", `detail` a sentence, `hint` what to do about it,
    `status` the HTTP status, `request_id` the id under which the daemon logged it.
    """

    def __init__(
        self,
        *,
        kind: str,
        detail: str,
        status: int,
        hint: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.hint = hint
        self.request_id = request_id

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # a constant of the base class, which here depends
        """2 where the caller's words were wrong, 1 where the goal could not be reached."""
        return EXIT_USAGE if self.kind in USAGE_KINDS else EXIT_NOT_REACHED
