"""What Python cannot raise anywhere (`sys.unraisablehook`) is told in the log, as a line like the others.

Decides what of it is no trouble.
"""

import logging
import signal
import sys

log = logging.getLogger(__name__)

OVERTAKEN = f"Signal {signal.SIGCHLD:d} ignored due to race condition"
"""So CPython calls a signal that came in the instant in which its handler was taken away
(Modules/signalmodule.c). `runtime.descendants` takes that of SIGCHLD away whenever one came, and looks at all
children afterwards: nothing is missed."""


def tell(about: "sys.UnraisableHookArgs") -> None:
    """Log it; for `sys.unraisablehook`."""
    if str(about.exc_value) == OVERTAKEN:
        return
    if about.object is None and about.err_msg:
        # As Python 3.14 says it: "Exception ignored while calling deallocator <function ...>".
        where = about.err_msg.removeprefix("Exception ignored ")
    else:
        # Not the object itself: it may be half gone, or come back to life.
        where = f"in {getattr(about.object, '__qualname__', type(about.object).__name__)}"
    error = about.exc_type(about.err_msg) if about.exc_value is None else about.exc_value
    log.error("an error %s could not be raised: it goes on without", where, exc_info=error)
