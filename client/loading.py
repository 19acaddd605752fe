"""Loads the libraries for learning without the garbage collector's passes meanwhile.

torch, diffusers and transformers make half a million objects that stay until the process ends. The
collector looks at them a thousand times while they come, and finds next to nothing: 1.0 of the 5.2
seconds of CPU time that ``client train`` takes before it begins. Afterwards they are set aside, so
that a training's own passes do not look at them again either.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import inside of the block what stays; the collector is as before behind it."""
    if "torch" in sys.modules:  # nothing much will come, and what is alive now may yet be garbage
        yield
        return
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
