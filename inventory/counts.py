"""Counting: who has to count what and when, blind, and what a difference means.

A count is compared with the books of the very moment it is entered, under the level's lock. Units that move before
the difference is posted stay moved: 95 counted while the books say 100, 3 ship, then −5 is posted and 92 remain.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum

from inventory import operations
from inventory.ledger import Bucket, Kind, Movement, post_movements
from inventory.locking import lock_levels, stock_service
from inventory.models import (
    AdjustmentRequest,
    Bin,
    BinStock,
    CountTask,
    DemandDay,
    Sku,
    StockLevel,
    StockMovement,
    Warehouse,
)
from inventory.operations import Adjusted
from oms.core import business
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import business_day, now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item

#: what a short pick puts units into inspection for, and what a count takes them out with
SHORT_PICK = "short pick: not_found"
COUNTED = "short pick: counted"
#: share of yearly value up to which a SKU is A, up to which it is B; the rest is C
A_SHARE, B_SHARE = Decimal("0.80"), Decimal("0.95")
#: tasks made by one run of the rule per warehouse: what a floor can count, not a year's worth at once
MOST_PER_RUN = 500


# --- the rule (pure) ------------------------------------------------------------------------------


def abc_classes(values: Mapping[int, Decimal]) -> dict[int, str]:
    """A, B or C per SKU by its value sold: the largest that make up 80 % are A, up to 95 % B, the rest C.

    The SKU that crosses a border still belongs to the better class. Nothing sold is C.
    """
    total = sum((value for value in values.values() if value > 0), Decimal(0))
    classes = {}
    running = Decimal(0)
    for sku, value in sorted(values.items(), key=lambda item: (-item[1], item[0])):
        if value <= 0 or running >= total * B_SHARE:
            classes[sku] = "C"
        else:
            classes[sku] = "A" if running < total * A_SHARE else "B"
        running += max(value, Decimal(0))
    return classes


def due_on(last_counted: dt.date | None, every_days: int, today: dt.date) -> dt.date:
    """The day by which it should be counted: `every_days` after the last count, today when never counted. It is
    overdue from the day after on.
    """
    return today if last_counted is None else last_counted + dt.timedelta(days=every_days)


def intervals() -> dict[str, int]:
    """Days between counts per class, from the settings."""
    return {name: int(business.get(f"count_days_{name.lower()}")) for name in "ABC"}


# --- tasks ----------------------------------------------------------------------------------------


def ask(
    sku_id: int,
    warehouse_id: int,
    *,
    cause: str,
    actor: Actor,
    bin_id: int | None = None,
    due: dt.date | None = None,
    blind: bool = True,
    note: str = "",
) -> CountTask:
    """Have a SKU counted in a bin or the whole warehouse. An open task for the same place is returned, not doubled.

    Raises `UserError` for a place that is not ours to count.
    """
    _, warehouse = operations.sku_and_place(sku_id, warehouse_id)
    if bin_id is not None and not Bin.objects.filter(pk=bin_id, warehouse=warehouse_id).exists():
        raise UserError("bin: it does not belong to this warehouse.", field="bin")
    open_one = CountTask.objects.filter(
        sku=sku_id, warehouse=warehouse_id, bin=bin_id, state=CountTask.State.OPEN
    )
    known = open_one.first()
    if known is not None:
        return known
    day = due or now().astimezone(ZoneInfo(warehouse.time_zone)).date()
    try:
        with transaction.atomic():
            return CountTask.objects.create(
                sku_id=sku_id, warehouse=warehouse, bin_id=bin_id, cause=cause, due_on=day, is_blind=blind,
                note=note[:255], created_by=str(actor),
            )  # fmt: skip
    except IntegrityError:  # somebody asked at the same moment
        return open_one.get()


def plan_due(*, actor: Actor, at: dt.datetime | None = None) -> int:
    """Make a task for every SKU whose class says that it is due, and one for a level that fell to zero since its last
    count. Returns how many were made; running it again makes none.
    """
    moment, every, made = at or now(), intervals(), 0
    for warehouse in Warehouse.objects.filter(is_active=True, kind__in=COUNTABLE).order_by("pk"):
        today = moment.astimezone(ZoneInfo(warehouse.time_zone)).date()
        open_task = CountTask.objects.filter(
            warehouse=warehouse, sku=OuterRef("sku"), bin__isnull=True, state__in=WAITING
        )
        levels = StockLevel.objects.filter(
            warehouse=warehouse, sku__is_active=True, sku__kind__in=(Sku.Kind.STOCK, Sku.Kind.PREBUILT)
        ).exclude(Exists(open_task))
        due = Q()
        for name, days in every.items():
            before = moment - dt.timedelta(days=days)
            due |= Q(sku__abc_class=name) & (Q(counted_at__lte=before) | Q(counted_at__isnull=True))
        emptied = StockMovement.objects.filter(
            sku=OuterRef("sku"), warehouse=warehouse, bucket=Bucket.ON_HAND, balance=0, quantity__lt=0,
            created_at__gt=moment - ZERO_WITHIN,
        ).exclude(kind__in=(Kind.COUNT, Kind.MERGE))  # fmt: skip
        empty = (
            Q(on_hand=0)
            & Exists(emptied)
            & (Q(counted_at__isnull=True) | Q(counted_at__lt=moment - ZERO_WITHIN))
        )
        tasks = []
        rows = (
            levels.filter((Q(on_hand__gt=0) & due) | empty)
            .order_by(F("counted_at").asc(nulls_first=True), "sku__abc_class", "pk")
            .values_list("sku_id", "on_hand", "sku__abc_class", "counted_at")[:MOST_PER_RUN]
        )
        zone = ZoneInfo(warehouse.time_zone)
        for sku_id, on_hand, name, counted_at in rows:
            last = counted_at.astimezone(zone).date() if counted_at else None
            tasks.append(
                CountTask(
                    sku_id=sku_id,
                    warehouse=warehouse,
                    cause=CountTask.Cause.RULE if on_hand else CountTask.Cause.ZERO,
                    due_on=due_on(last, every.get(name, every["C"]), today) if on_hand else today,
                    created_by=str(actor),
                )
            )
        CountTask.objects.bulk_create(tasks, ignore_conflicts=True)
        made += len(tasks)
    return made


#: kinds of warehouse that we count ourselves
COUNTABLE = (Warehouse.Kind.OWN, Warehouse.Kind.STORE)
#: states in which nobody needs to be asked again
WAITING = (CountTask.State.OPEN, CountTask.State.COUNTED, CountTask.State.WAITING)
#: how long after running empty a place is worth a look
ZERO_WITHIN = dt.timedelta(days=2)


def classify(*, today: dt.date | None = None) -> int:
    """Store the ABC class of every SKU by the value demanded in the last 365 days. Returns how many changed."""
    day = today or business_day()
    sold = (
        DemandDay.objects.filter(day__gte=day - dt.timedelta(days=365), day__lt=day)
        .values_list("sku")
        .annotate(units=Sum("units"))
        .order_by()
    )
    units = dict(sold)
    skus = list(
        Sku.objects.filter(kind__in=(Sku.Kind.STOCK, Sku.Kind.PREBUILT)).only(
            "pk", "unit_cost", "price", "abc_class"
        )
    )
    classes = abc_classes({sku.pk: units.get(sku.pk, 0) * (sku.unit_cost or sku.price) for sku in skus})
    changed = [sku for sku in skus if sku.abc_class != classes[sku.pk]]
    for sku in changed:
        sku.abc_class = classes[sku.pk]
    Sku.objects.bulk_update(changed, ["abc_class"], batch_size=1000)
    return len(changed)


# --- counting -------------------------------------------------------------------------------------


@stock_service
def submit(task_id: int, counted: int, *, actor: Actor, note: str = "") -> CountTask:
    """Enter what was counted. The books of this moment are stored beside it; without a difference the task is done.

    Raises `NotFound`, `UserError` (negative), `Conflict` (counted or cancelled already).
    """
    if not 0 <= counted <= 1_000_000_000:
        raise UserError("counted: must be a whole number of 0 or more.", field="counted")
    task = _locked(task_id)
    if task.state != CountTask.State.OPEN:
        if task.counted == counted and task.state != CountTask.State.CANCELLED:
            return task  # the same form twice
        raise Conflict(f"{task} is {task.get_state_display().lower()} already.", field="count")
    task.expected = books(task)
    task.counted, task.counted_at, task.counted_by_id = counted, now(), actor.user_id
    task.note = note[:255] or task.note
    if counted == task.expected and not _missed(task):
        _close(task, actor)
    else:
        task.state = CountTask.State.COUNTED
        raise_item(
            "count_difference",
            f"count-difference:{task.pk}",
            f"{task.sku} in {_where(task)}: counted {counted}, {task.variance:+d} against the books",
            url=f"/stock/counts/{task.pk}/",
            warehouse_code=task.warehouse.code,
        )
    task.save()
    close_item(f"count:{task.sku_id}:{task.warehouse_id}", "counted", actor=actor)
    return task


def books(task: CountTask) -> int:
    """What the books say lies there now; locks the level, so that nothing moves in between."""
    lock_levels([(task.sku_id, task.warehouse_id)])
    if task.bin_id is not None:
        rows = BinStock.objects.filter(bin=task.bin_id, sku=task.sku_id)
        return rows.aggregate(units=Sum("quantity"))["units"] or 0
    level = StockLevel.objects.filter(sku=task.sku_id, warehouse=task.warehouse_id).first()
    return level.on_hand if level else 0


@stock_service
def accept(task_id: int, *, actor: Actor, note: str = "") -> Adjusted:
    """Post the difference of a count: `counted − expected`, whatever moved since. Above the person's limit it waits
    for a second person. Units that a short pick had put aside are released first.

    Raises `NotFound`, `Conflict` (not counted yet, decided already, too few left to take away).
    """
    task = _locked(task_id)
    if task.state != CountTask.State.COUNTED:
        raise Conflict(
            f"{task} is {task.get_state_display().lower()}: there is no difference to post.", field="count"
        )
    variance = task.variance or 0
    _release_missed(task, actor)
    outcome = Adjusted()
    if variance:
        outcome = operations.adjust(
            sku_id=task.sku_id, warehouse_id=task.warehouse_id, quantity=variance, reason="count", actor=actor,
            key=f"count:{task.pk}", note=note or f"counted {task.counted}, books {task.expected}",
            reference=str(task), kind=Kind.COUNT, bin_id=task.bin_id,
        )  # fmt: skip
    if outcome.request is not None:
        task.state, task.request = CountTask.State.WAITING, outcome.request
    else:
        _close(task, actor)
    task.save()
    close_item(f"count-difference:{task.pk}", "posted", actor=actor)
    record(actor, "count.accepted", task.sku, after={"count": str(task), "variance": variance})
    return outcome


@stock_service
def recount(task_id: int, *, actor: Actor, note: str = "") -> CountTask:
    """Throw a count away and ask for another one. Raises `NotFound`, `Conflict`."""
    task = _locked(task_id)
    if task.state != CountTask.State.COUNTED:
        raise Conflict(
            f"{task} is {task.get_state_display().lower()}: nothing to count again.", field="count"
        )
    task.state, task.closed_at = CountTask.State.CANCELLED, now()
    task.save(update_fields=["state", "closed_at"])
    close_item(f"count-difference:{task.pk}", "counted again", actor=actor)
    return ask(
        task.sku_id, task.warehouse_id, cause=task.cause, actor=actor, bin_id=task.bin_id, blind=task.is_blind,
        note=note or f"again: {task} differed",
    )  # fmt: skip


@stock_service
def cancel(task_id: int, *, actor: Actor) -> CountTask:
    """Withdraw a task nobody counted. Repeating changes nothing. Raises `NotFound`, `Conflict`."""
    task = _locked(task_id)
    if task.state == CountTask.State.CANCELLED:
        return task
    if task.state != CountTask.State.OPEN:
        raise Conflict(f"{task} is {task.get_state_display().lower()} already.", field="count")
    task.state, task.closed_at = CountTask.State.CANCELLED, now()
    task.save(update_fields=["state", "closed_at"])
    close_item(f"count:{task.sku_id}:{task.warehouse_id}", "the count was taken off the list", actor=actor)
    record(actor, "count.cancelled", task.sku, after={"count": str(task)})
    return task


def follow_decisions(request_ids: Iterable[int]) -> int:
    """Close counts whose adjustment was decided: posted when it was approved, else given up. Harmless to repeat."""
    changed = 0
    for task in CountTask.objects.filter(
        request__in=list(request_ids), state=CountTask.State.WAITING
    ).select_related("request", "sku", "warehouse"):
        if task.request is None or task.request.state == AdjustmentRequest.State.PENDING:
            continue
        if task.request.state == AdjustmentRequest.State.APPROVED:
            _close(task, None)
        else:
            task.state, task.closed_at = CountTask.State.CANCELLED, now()
        task.save()
        changed += 1
    return changed


def queue(warehouse_codes: Q) -> QuerySet[CountTask]:
    """Open tasks, what is due first; in one warehouse along the walk. `warehouse_codes` limits the places."""
    return (
        CountTask.objects.filter(warehouse_codes, state=CountTask.State.OPEN)
        .select_related("sku__product", "warehouse", "bin")
        .order_by("due_on", F("bin__pick_sequence").asc(nulls_last=True), "pk")
    )


def _locked(task_id: int) -> CountTask:
    task = (
        CountTask.objects.filter(pk=task_id)
        .select_related("sku", "warehouse", "bin")
        .select_for_update(of=("self",), no_key=True)
        .first()
    )
    if task is None:
        raise NotFound(f"count: there is no count with id {task_id}.", field="count")
    return task


def _where(task: CountTask) -> str:
    return f"{task.warehouse} {task.bin}" if task.bin else str(task.warehouse)


def _close(task: CountTask, actor: Actor | None) -> None:
    task.state, task.closed_at = CountTask.State.DONE, now()
    if task.bin_id is None:
        StockLevel.objects.filter(sku=task.sku_id, warehouse=task.warehouse_id).update(
            counted_at=task.counted_at
        )
    if actor is not None:
        record(
            actor,
            "count.done",
            task.sku,
            after={"count": str(task), "counted": task.counted, "variance": task.variance},
        )


def _missed(task: CountTask) -> int:
    """Units that short picks put into inspection and no count has released yet."""
    rows = StockMovement.objects.filter(
        sku=task.sku_id,
        warehouse=task.warehouse_id,
        bucket=Bucket.INSPECTION,
        reason__in=(SHORT_PICK, COUNTED),
    )
    units = rows.aggregate(units=Sum("quantity"))["units"] or 0
    level = StockLevel.objects.filter(sku=task.sku_id, warehouse=task.warehouse_id).first()
    return max(0, min(units, level.inspection if level else 0))


def _release_missed(task: CountTask, actor: Actor) -> None:
    units = _missed(task)
    if units:
        post_movements(
            [
                Movement(
                    sku_id=task.sku_id, warehouse_id=task.warehouse_id, bucket=Bucket.INSPECTION, quantity=-units,
                    kind=Kind.STATE, key=f"count:{task.pk}:missed", reason=COUNTED, reference=str(task),
                )
            ],
            actor=actor,
        )  # fmt: skip


@dataclass(frozen=True)
class Accuracy:
    """Counts of a period: how many agreed with the books, in counts and in units."""

    counts: int
    exact: int
    units_off: int

    @property
    def share(self) -> float | None:
        return self.exact / self.counts if self.counts else None


def accuracy(since: dt.datetime, warehouse_ids: Iterable[int]) -> Accuracy:
    """Location accuracy of finished counts since a moment."""
    rows = CountTask.objects.filter(
        warehouse__in=list(warehouse_ids), state__in=("done", "waiting"), counted_at__gte=since
    ).values_list("counted", "expected")
    differences = [abs((counted or 0) - (expected or 0)) for counted, expected in rows]
    return Accuracy(len(differences), sum(not units for units in differences), sum(differences))
