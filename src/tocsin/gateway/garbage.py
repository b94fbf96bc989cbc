"""The collector of reference cycles, told what will stay, and memory that is given back.

By itself it goes through all that the process has loaded, libraries, rules and models, each time
that some hundred requests have left something: a tenth of a second in which no stream moves.

The allocator keeps what reading rules and models needed, some seven megabytes, unless it is told.
"""

from __future__ import annotations

import ctypes
import gc

from tocsin.limits import GARBAGE_YOUNG_MAX


def settle() -> None:
    """Leave out from now on what there is by now, and look at what is new less often.

    For a process of its own, once it is ready. What is counted out goes by its references alone;
    the next call looks at all of it again.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_YOUNG_MAX, *gc.get_threshold()[1:])
    _give_back()


def _give_back() -> None:
    """Return free memory to the system, where the C library is one that can (glibc)."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)
