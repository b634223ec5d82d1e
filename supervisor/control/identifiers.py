"""The names that the control plane gives: operation ids and request ids."""

import os
import re
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_CHARACTERS = 9
_RANDOM_CHARACTERS = 7

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
"""What a client's X-Request-ID must look like (as a whole) to be taken over."""


def new_operation_id() -> str:
    """Sixteen characters that sort by time of making: milliseconds since 1970, then chance.

    Crockford's base32 in lower case: no letter is mistaken for a digit when read out.
    """
    moment = time.time_ns() // 1_000_000
    return _base32(moment, _TIME_CHARACTERS) + _base32(int.from_bytes(os.urandom(5)), _RANDOM_CHARACTERS)


def new_request_id() -> str:
    """Sixteen hexadecimal digits by chance."""
    return os.urandom(8).hex()


def _base32(number: int, characters: int) -> str:
    return "".join(_ALPHABET[(number >> (5 * place)) & 31] for place in reversed(range(characters)))
