"""What must always be true. Each invariant returns its failing rows as text; no rows = it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

Check = Callable[[], Iterable[str]]


@dataclass(frozen=True)
class Invariant:
    id: str
    sentence: str
    check: Check


_registered: dict[str, Invariant] = {}


def invariant(id: str, sentence: str) -> Callable[[Check], Check]:
    """Register a check under an id such as "S1"."""

    def register(check: Check) -> Check:
        known = _registered.get(id)
        if known and known.check.__module__ != check.__module__:
            raise ValueError(f"invariant {id} is declared in {known.check.__module__} already")
        _registered[id] = Invariant(id, sentence, check)
        return check

    return register


def all_invariants() -> list[Invariant]:
    return sorted(_registered.values(), key=lambda entry: entry.id)


@dataclass(frozen=True)
class Result:
    invariant: Invariant
    failures: list[str]

    @property
    def ok(self) -> bool:
        return not self.failures


def run(ids: Iterable[str] = (), limit: int = 50) -> list[Result]:
    """Run all invariants, or those named; at most `limit` failing rows each. KeyError for an unknown id."""
    chosen = [_registered[id] for id in ids] or all_invariants()
    return [Result(entry, list(islice(entry.check(), limit))) for entry in chosen]
