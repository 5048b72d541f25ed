"""What a long-running process does once about its memory."""

from __future__ import annotations

import gc


def settle() -> None:
    """After everything is loaded: collect once, then leave what is there alone.

    Half a million objects of the frameworks live as long as the process. A full collection that walks over them costs
    a fifth of a second in the middle of somebody's request; frozen, it sees only what requests have made. A page
    makes ten thousand objects: with Python's step of 700 most of them are taken for old ones before they are gone,
    and pile up for a long pause; with a wide step they are found gone at the first look.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 2, 50)
