"""Keeps the garbage collector from holding the loop.

Decides when the collector looks and at what. A full collection walks everything there is: 30 ms with a
thousand instances. Nearly all of that lives as long as the daemon, so what has survived one is never
looked at again; it is still freed when nobody refers to it. The price is that a cycle is lost for good if
it dies only after it survived a full collection: at most what clients were asking at that moment.
"""

import gc

THRESHOLDS = (700, 5, 200)
"""So many new containers until the youngest are looked at, so many of these looks (10 by default) until
the middle ones, which takes a millisecond, and so many of those (10) until everything."""


def tame() -> None:
    """Call it when what will live as long as the daemon has been loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    if _after not in gc.callbacks:
        gc.callbacks.append(_after)


def _after(phase: str, about: dict[str, int]) -> None:
    if phase == "stop" and about["generation"] == len(THRESHOLDS) - 1:
        gc.freeze()
