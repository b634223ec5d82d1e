"""The bearer token of a daemon behind TCP: where it is read from. Its value never appears in a message."""

import os
from pathlib import Path

from supervisor.client.errors import NotPermitted

LARGEST_TOKEN_BYTES = 4096
"""HTTP servers refuse header lines that are much longer."""


def read_token(token_file: str | None) -> str | None:
    """The token in `token_file`, or in the file named by `PITBOSS_TOKEN_FILE`; None without either.

    Raises `NotPermitted` if the file cannot be read or holds no token.
    """
    path = token_file or os.environ.get("PITBOSS_TOKEN_FILE")
    if not path:
        return None
    try:
        with Path(path).open("rb") as source:
            token = source.read(LARGEST_TOKEN_BYTES + 1).strip()
    except OSError as error:
        raise NotPermitted(f"cannot read the token file {path}: {error.strerror}") from error
    if not token or len(token) > LARGEST_TOKEN_BYTES or not _is_printable(token):
        raise NotPermitted(f"cannot use the token file {path}: it must hold one token on one line")
    return token.decode("ascii")


def _is_printable(token: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in token)
