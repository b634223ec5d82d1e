"""Keeps the garbage collector from holding the loop.

Decides when the collector looks and at what. A full collection walks everything there is: 30 ms with a
thousand instances. Nearly all of that lives as long as its generation, and the core leaves nothing behind
that needs a collector. So once so much has survived that walking it would hold the loop, it is never
looked at again; it is still freed when nobody refers to it. The price is that a cycle is lost for good if
it dies only after that: what clients and checks were asking at the moment, once in every so many starts.
"""

import gc

THRESHOLDS = (100, 10, 4)
"""So many new containers until the youngest are looked at, so many of these looks (10 by default) until
the middle ones, which takes half a millisecond, and so many of those (10) until everything."""

WORTH_FREEZING = 2500
"""So many survivors of a full collection take a millisecond to walk."""

_OLDEST = len(THRESHOLDS) - 1


def tame() -> None:
    """Call it when what will live as long as the daemon has been loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    if _after not in gc.callbacks:
        gc.callbacks.append(_after)


def _after(phase: str, about: dict[str, int]) -> None:
    if phase == "stop" and about["generation"] == _OLDEST and len(gc.get_objects(_OLDEST)) > WORTH_FREEZING:
        gc.freeze()
