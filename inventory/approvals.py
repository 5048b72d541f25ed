"""The adjustment limit, one rule for every door: screens, files, the bulk editor, the API and the admin ask here.

A person changes stock alone up to a value, the limit of his roles. An act above it waits, without any effect on
stock, until a second person approves it. One adjustment is kept as an `AdjustmentRequest`; many that were asked for
at once are kept as one `StockBatch` with its totals and first rows, and approving it runs the job that does them.

What counts for many at once is the business setting `adjustment_batch`. *whole* (the default) adds up cost ×
|difference| over all rows: whoever signs off stock thinks of what the act moves in all, and a limit that only looked
at rows would be passed by cutting 5,000 into rows of 50. Gains never offset losses. *row* looks at the dearest row,
for businesses whose daily counts of thousands of rows are routine and where one large row is what is suspicious.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db.models import Max, QuerySet

from inventory.locking import Pair, read_levels
from inventory.models import AdjustmentLimit, AdjustmentRequest, StockBatch
from inventory.selectors import Code
from oms.core import business
from oms.core.access import can, require, scope_of
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import Conflict, NotAllowed, NotFound
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.models import Job, Membership
from oms.core.words import some

#: rows of before → after that the approvals screen shows; the whole list is behind the batch's address
SHOWN = 20
WHOLE, ROW = "whole", "row"
#: the right that the second person holds in every warehouse which an act touches
APPROVE = "stock.adjust"


def limit_of(user_id: int) -> Decimal:
    """Value up to which a user adjusts alone, business currency: the highest of his roles' own limits; people whose
    roles have none share the common setting.
    """
    own = AdjustmentLimit.objects.filter(
        role__in=Membership.objects.filter(user=user_id).values("role")
    ).aggregate(most=Max("amount"))["most"]
    return Decimal(str(business.get("adjustment_limit"))) if own is None else Decimal(own)


def worth(units: int, average: Decimal, standard: Decimal, given: Decimal | None = None) -> Decimal:
    """Value of a change of `units`, signed: at average cost, at the standard cost where there is none yet. Units
    that come in at a cost of their own (`given`) count at the higher one, for they move the average.
    """
    cost = average or standard
    if given is not None and units > 0:
        cost = max(cost, given)
    return abs(units) * cost


@dataclass
class Sum:
    """What many changes are worth together: sums of units and value, and the dearest row."""

    rows: int = 0
    units_in: int = 0
    units_out: int = 0
    value: Decimal = Decimal(0)
    dearest: Decimal = Decimal(0)
    shown: list[list[Any]] = field(default_factory=list)  # SKU, warehouse code, before, after
    places: set[str] = field(default_factory=set)  # codes of the warehouses

    def add(self, units: int, value: Decimal) -> None:
        """Count one row in; one that changes nothing is none."""
        if units:
            self.rows += 1
            self.units_in += max(units, 0)
            self.units_out += max(-units, 0)
            self.value += value
            self.dearest = max(self.dearest, value)

    def counted(self) -> Decimal:
        """The figure that is held against the limit, by the rule of the business."""
        return self.dearest if business.get("adjustment_batch") == ROW else self.value


def needs_second(value: Decimal, user_id: int | None) -> bool:
    """Whether an act of that value waits for a second person. Only people have a limit: what the software does by
    itself (channels, rules, the command line of whoever runs the server) is not an adjustment of a person.
    """
    return user_id is not None and value > limit_of(user_id)


# --- many at once ---------------------------------------------------------------------------------

#: told what was decided of a batch, in the deciding transaction; gives the job that does it
Runner = Callable[[StockBatch, bool], Job | None]
_runners: dict[str, Runner] = {}


def batch_runner(kind: str) -> Callable[[Runner], Runner]:
    """Register who runs approved batches of a kind, and hears of refused ones."""

    def register(runner: Runner) -> Runner:
        _runners[kind] = runner
        return runner

    return register


def ask(
    kind: str, title: str, params: dict[str, Any], total: Sum, *, actor: Actor, key: str, url: str = ""
) -> StockBatch:
    """Keep what was asked for until a second person has seen it, once per `key`. Nothing happens before."""
    if kind not in _runners:
        raise ValueError(f"no runner for batches of kind '{kind}'")
    assert actor.user_id is not None  # only people have a limit
    batch, new = StockBatch.objects.get_or_create(
        key=key[:120],
        defaults={
            "kind": kind, "title": title[:160], "params": params, "rows": total.rows, "units_in": total.units_in,
            "units_out": total.units_out, "value": total.value, "limit": limit_of(actor.user_id),
            "shown": total.shown[:SHOWN], "places": sorted(total.places), "url": url, "author_id": actor.user_id,
            "actor": str(actor), "created_at": now(),
        },
    )  # fmt: skip
    if new:
        raise_item(
            "adjustment_approval",
            f"stock_batch:{batch.pk}",
            f"Approve: {batch.title}",
            detail=f"{some(total.rows, 'row')}, +{total.units_in:,} −{some(total.units_out, 'unit')}, "
            f"asked by {actor.name}.",
            url="/stock/approvals/",
            warehouse_code=batch.places[0] if len(batch.places) == 1 else "",
            money=total.value,
        )
        record(actor, "stock.batch_asked", batch, after={"rows": total.rows, "value": str(total.value)})
    return batch


# --- the second person ----------------------------------------------------------------------------


def require_approver(principal: Any, places: Iterable[str] = ()) -> None:
    """Whether somebody may decide an act in these warehouses (codes). Raises `NotAllowed`.

    That it is not the author is seen to by `settle`, where the decision is written.
    """
    require(principal, APPROVE)
    for place in places:
        require(principal, APPROVE, place)


def waiting_requests(principal: Any) -> QuerySet[AdjustmentRequest]:
    """The single adjustments that wait and that somebody may decide, his own among them: those he may take back."""
    return AdjustmentRequest.objects.filter(
        scope_of(principal, APPROVE).q(warehouse="warehouse__code"), state=AdjustmentRequest.State.PENDING
    )


def _may_decide(principal: Any, batch: StockBatch) -> bool:
    return can(principal, APPROVE) and all(can(principal, APPROVE, place) for place in batch.places)


def visible_batches(principal: Any, permission: str) -> QuerySet[StockBatch]:
    """Batches in whose every warehouse the principal holds the right; with limited rights of the newest 1,000."""
    scope, rows = scope_of(principal, permission), StockBatch.objects.all()
    if scope.warehouses is None:
        return rows
    newest = rows.order_by("-pk").values_list("pk", "places")[:1000]
    return rows.filter(pk__in=[pk for pk, places in newest if places and scope.warehouses.issuperset(places)])


def waiting_batches(user: Any) -> list[StockBatch]:
    """The batches that wait and that the person may decide, his own among them; at most 100, the oldest first."""
    rows = StockBatch.objects.filter(state=StockBatch.State.PENDING).select_related("author")
    return [batch for batch in rows.order_by("created_at")[:100] if _may_decide(user, batch)]


def decide_batch(batch_id: int, approve: bool, *, actor: Actor) -> StockBatch:
    """The second person agrees, and its job begins; or says no, and nothing happens. Call it in a transaction.

    Raises `NotAllowed` for the author himself, `Conflict` when it was decided already, `NotFound`.
    """
    batch = StockBatch.objects.filter(pk=batch_id).first()
    if batch is None:
        raise NotFound(f"batch: there is none with id {batch_id}.", field="batch")
    state = StockBatch.State.APPROVED if approve else StockBatch.State.REFUSED
    settle(batch, state, f"stock_batch:{batch_id}", actor)
    record(actor, f"stock.batch_{state}", batch, after={"rows": batch.rows, "value": str(batch.value)})
    batch.job = _runners[batch.kind](batch, approve)
    batch.save(update_fields=["job"])
    return batch


def withdraw_batch(batch_id: int, *, actor: Actor) -> StockBatch:
    """Its author takes a batch back before anybody decided; nothing of it happens. Call it in a transaction.

    Raises `Conflict` for anybody else or when it was decided already, `NotFound`.
    """
    batch = StockBatch.objects.filter(pk=batch_id).first()
    if batch is None:
        raise NotFound(f"batch: there is none with id {batch_id}.", field="batch")
    withdraw(batch, f"stock_batch:{batch_id}", actor)
    record(actor, "stock.batch_withdrawn", batch, after={"rows": batch.rows, "value": str(batch.value)})
    _runners[batch.kind](batch, False)
    return batch


def withdraw(request: AdjustmentRequest | StockBatch, item: str, actor: Actor) -> None:
    """The author takes back what waits, once. Raises `Conflict`, also for anybody else."""
    if actor.user_id is None or actor.user_id != request.author_id:
        raise Conflict("adjustment: only its author takes it back; others refuse it.", field="adjustment")
    _leave_waiting(request, {"state": "withdrawn", "decided_at": now()})
    close_item(item, "withdrawn", actor=actor)


def _leave_waiting(request: AdjustmentRequest | StockBatch, values: dict[str, Any]) -> None:
    """One of all who decide at once does it; the others are told by whom it was decided. Raises `Conflict`."""
    waiting = type(request)._default_manager.filter(pk=request.pk, state="pending")
    decided = waiting.update(**values)
    request.refresh_from_db()
    if not decided:
        raise Conflict(
            f"adjustment: it was {request.get_state_display().lower()} already.", field="adjustment"
        )


def settle(request: AdjustmentRequest | StockBatch, state: str, item: str, actor: Actor) -> None:
    """Decide what waits, once, by another person than its author. Raises `NotAllowed`, `Conflict`."""
    if actor.user_id is None:
        raise NotAllowed("adjustment: a person has to decide.", field="adjustment")
    if actor.user_id == request.author_id:
        raise NotAllowed("adjustment: another person than its author has to decide.", field="adjustment")
    _leave_waiting(request, {"state": state, "decided_by_id": actor.user_id, "decided_at": now()})
    close_item(item, state, actor=actor)


def approved(batch_id: int | None) -> bool:
    """Whether a second person approved the batch that a change is part of."""
    return (
        batch_id is not None
        and StockBatch.objects.filter(pk=batch_id, state=StockBatch.State.APPROVED).exists()
    )


def foresee(changes: Iterable[tuple[Code, str, int, int, bool]]) -> Sum:
    """What changes would move now: (SKU, warehouse code, its id, units, add), read in groups of 2,000."""
    total = Sum()
    group: list[tuple[Code, str, int, int, bool]] = []
    for one in changes:
        group.append(one)
        if len(group) == 2000:
            _foresee(group, total)
            group = []
    _foresee(group, total)
    return total


def _foresee(group: Sequence[tuple[Code, str, int, int, bool]], total: Sum) -> None:
    pairs: set[Pair] = {(sku.id, place) for sku, _, place, _, _ in group}
    levels = read_levels(pairs) if pairs else {}
    for sku, code, place, units, add in group:
        level = levels.get((sku.id, place))
        before = level.on_hand if level else 0
        change = units if add else units - before
        total.add(change, worth(change, level.average_cost if level else Decimal(0), sku.unit_cost))
        if change:
            total.places.add(code)
            if len(total.shown) < SHOWN:
                total.shown.append([sku.code, code, before, before + change])
