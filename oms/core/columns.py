"""Which column of a file means which of our fields: found by its header, or as a person chose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A field of ours and the headers (normalised) that mean it; `help` is shown where columns are matched."""

    name: str
    headers: tuple[str, ...] = ()
    needed: bool = False
    help: str = ""

    @property
    def means(self) -> tuple[str, ...]:
        return (normal(self.name), *self.headers)


def normal(header: str) -> str:
    """A header in one way of writing: `Order No.` and order_no are orderno."""
    return re.sub(r"[^a-z0-9]", "", header.lower())


def bind(
    columns: Sequence[Column],
    headers: Iterable[str],
    chosen: Mapping[str, str] | None = None,
    *,
    once: bool = False,
) -> dict[str, str]:
    """The file's header of each of our fields: as chosen by a person, else found by name.

    An empty choice means that the file does not have it. `once`: what is found by name stands for one field only,
    the first that asks for it.
    """
    have = {normal(header): header for header in reversed(list(headers)) if header}
    used = {normal(header) for header in (chosen or {}).values()} if once else set()
    bound = {}
    for column in columns:
        header = (chosen or {}).get(column.name)
        if header is None:
            header = next((have[name] for name in column.means if name in have and name not in used), "")
            if once and header:
                used.add(normal(header))
        if header and normal(header) in have:
            bound[column.name] = have[normal(header)]
    return bound


def missing(columns: Sequence[Column], bound: Mapping[str, str]) -> list[str]:
    """Names of the fields that are needed and were not found."""
    return [column.name for column in columns if column.needed and column.name not in bound]
