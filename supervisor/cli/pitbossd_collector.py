"""Keeps the garbage collector from holding the loop.

Decides when the collector looks and at what. A full collection walks everything there is: 30 ms with a
thousand instances. Nearly all of that lives as long as its generation, and the core leaves nothing behind
that needs a collector. So once so much has survived that walking it would hold the loop, it is never
looked at again; it is still freed when nobody refers to it. The price is that a cycle is lost for good if
it dies only after that: the checks that were under way at the moment, once in some hundred starts.

The collector's own rule counts new values less those that were freed. While a fleet is replaced neither
grows, and thousands of young ones pile up to be walked at once: hence `tidy`, after so much work.
"""

import gc

THRESHOLDS = (700, 3, 1000)
"""So many new containers until the youngest are looked at, so many of these looks (10 by default) until the
middle ones, which takes half a millisecond, and so many of those (10) until everything, which is `tidy`'s."""

WORTH_FREEZING = 2500
"""So many survivors of a full collection take a third of a millisecond to walk."""

_OLDEST = len(THRESHOLDS) - 1


def tame() -> None:
    """Call it when what will live as long as the daemon has been loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    if _after not in gc.callbacks:
        gc.callbacks.append(_after)


def tidy() -> None:
    """Look at what is young; at everything, if it is enough to be put aside."""
    gc.collect(_OLDEST if _survivors() > WORTH_FREEZING else _OLDEST - 1)


def _after(phase: str, about: dict[str, int]) -> None:
    if phase == "stop" and about["generation"] == _OLDEST and _survivors() > WORTH_FREEZING:
        gc.freeze()


def _survivors() -> int:
    return len(gc.get_objects(_OLDEST))
