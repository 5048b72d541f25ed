"""Small pieces of sentences that people read."""

from __future__ import annotations


def some(count: int, one: str, many: str = "") -> str:
    """A count with its noun: "1 row", "2 rows", "1,200 rows"; `many` where the plural is no "s" behind `one`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
