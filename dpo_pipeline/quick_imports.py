"""Import many modules without the garbage collector.

What a module defines stays for good, so that collections find nothing while libraries load, and look through all that
is there each time: a quarter of what importing torch, transformers and TRL takes, and half of ours beside Dagster.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """No collection within; where modules were loaded, later ones leave out what is there by then."""
    wanted, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:
            gc.freeze()
        if wanted:
            gc.enable()
