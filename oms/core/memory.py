"""What a long-running process does once about its memory."""

from __future__ import annotations

import gc


def settle() -> None:
    """After everything is loaded: collect once, then leave what is there alone.

    Half a million objects of the frameworks live as long as the process. A full collection that walks over them costs
    a fifth of a second in the middle of somebody's request; frozen, it sees only what requests have made.
    """
    gc.collect()
    gc.freeze()
