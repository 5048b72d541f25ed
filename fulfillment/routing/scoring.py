"""Comparing groups of warehouses criterion by criterion; every figure is the smaller the better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from fulfillment.routing.model import DEFAULT_RANK, RANKINGS, OrderView, WarehouseView

_UNKNOWN = 10**9
#: everything a candidate can lose on by comparison
CRITERIA = (*RANKINGS, "preference", "name")
#: over several warehouses the worst one counts; for the others the sum does
_WORST = ("on_time", "ship_day", "balance")

Figure = tuple[Decimal | float, ...]
Score = tuple[Figure, ...]


class Scorer:
    """Figures of each candidate for the criteria of one wish, worked out once."""

    def __init__(
        self, order: OrderView, candidates: Sequence[WarehouseView], wish: Mapping[str, Any]
    ) -> None:
        rank: list[str] = list(wish.get("rank") or DEFAULT_RANK)
        if "fewest_splits" not in rank:
            rank.insert(0, "fewest_splits")
        if wish.get("prefer"):
            rank.insert(0, "preference")
        rank += [criterion for criterion in DEFAULT_RANK if criterion not in rank]
        self.rank = tuple(rank)
        self._prefer = list(wish.get("prefer", ()))
        self._ship_by = order.ship_by
        self.views = {w.code: w for w in candidates}
        #: costs in two currencies are never compared
        self.currencies = {w.currency for w in candidates if w.cost is not None}
        self._by_km = all(w.distance_km is not None for w in candidates)
        self._figures = {
            w.code: tuple(self._figure(criterion, w) for criterion in self.rank) for w in candidates
        }

    @property
    def splits_first(self) -> bool:
        """Whether a smaller group always beats a larger one that places as much."""
        return self.rank[0] == "fewest_splits"

    def score(self, codes: Sequence[str]) -> Score:
        """The comparable figures of a group."""
        if len(codes) == 1:
            return self._figures[codes[0]]
        columns = zip(*(self._figures[code] for code in codes), strict=True)
        return tuple(
            max(column) if criterion in _WORST else tuple(map(sum, zip(*column, strict=True)))
            for criterion, column in zip(self.rank, columns, strict=True)
        )

    def _figure(self, criterion: str, w: WarehouseView) -> Figure:
        if criterion == "preference":
            return (self._prefer.index(w.code) if w.code in self._prefer else len(self._prefer),)
        if criterion == "on_time":
            return (self._late(w),)
        if criterion == "fewest_splits":
            return (1,)
        if criterion == "ship_day":
            return (w.ship_day.toordinal() if w.ship_day else _UNKNOWN,)
        if criterion == "cost":
            if len(self.currencies) > 1:
                return (0, 0)
            return (1, 0) if w.cost is None else (0, w.cost)
        if criterion == "distance":
            if self._by_km:
                return (w.distance_km or 0,)
            return (int(w.zone) if w.zone.isdigit() else _UNKNOWN,)
        if criterion == "priority":
            return (w.priority,)
        whole = w.planned + (w.capacity_left or 0)
        return (w.planned / whole if w.capacity_left is not None and whole else 0.0,)

    def _late(self, w: WarehouseView) -> int:
        """0 when it leaves by the order's day; without such a day everything but the same day's start is equal."""
        if w.ship_day is None:
            return _UNKNOWN
        if self._ship_by is None:
            return w.ship_day.toordinal()
        return max(0, (w.ship_day - self._ship_by.astimezone(ZoneInfo(w.time_zone)).date()).days)

    def why(self, loser: Sequence[str], winner: Sequence[str]) -> tuple[str, str]:
        """The criterion that decided between two groups, and the words for it."""
        for criterion, mine, theirs in zip(self.rank, self.score(loser), self.score(winner), strict=True):
            if mine != theirs:
                return criterion, self._words(criterion, loser, winner)
        return "name", f"{winner[0]} comes first"

    def _words(self, criterion: str, loser: Sequence[str], winner: Sequence[str]) -> str:
        losers, winners = ([self.views[code] for code in group] for group in (loser, winner))
        if criterion == "on_time":
            return f"leaves too late, {_last_day(losers)} against {_last_day(winners)}"
        if criterion == "fewest_splits":
            return f"{len(loser)} shipments against {len(winner)}"
        if criterion == "ship_day":
            return f"ships {_last_day(losers)} against {_last_day(winners)}"
        if criterion == "cost":
            if any(w.cost is None for w in losers):
                return "its cost is unknown"
            notes = sorted({w.cost_note for w in losers if w.cost_note})
            return f"costs {_cost(losers)} against {_cost(winners)}" + (
                f" ({', '.join(notes)})" if notes else ""
            )
        if criterion == "distance":
            if self._by_km:
                far, near = (sum(w.distance_km or 0 for w in group) for group in (losers, winners))
                return f"{far} km against {near} km"
            return f"zone {_zones(losers)} against {_zones(winners)}"
        if criterion == "balance":
            return f"{'+'.join(winner)} is less busy"
        return f"{'+'.join(winner)} has the better {criterion}"


def _last_day(group: Sequence[WarehouseView]) -> str:
    return str(max((w.ship_day for w in group if w.ship_day), default="never"))


def _cost(group: Sequence[WarehouseView]) -> Decimal:
    return sum((w.cost for w in group if w.cost is not None), Decimal(0))


def _zones(group: Sequence[WarehouseView]) -> str:
    return "+".join(w.zone or "?" for w in group)
