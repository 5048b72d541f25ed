"""Reads of the 3PL floor: what a person may see, and how well each 3PL keeps its word."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import Abs

from fulfillment.models import HandOff, InboundNotice, ThreePLAccount, ThreePLMessage
from inventory.models import StockDifference, StockMovement
from oms.core.access import scope_of
from oms.core.clock import now
from oms.core.errors import NotFound

WINDOW = dt.timedelta(days=30)


def visible(principal: Any, permission: str = "shipping.view") -> QuerySet[ThreePLAccount]:
    """The 3PLs of the warehouses a user or token may see."""
    scope = scope_of(principal, permission)
    return ThreePLAccount.objects.filter(scope.q(warehouse="warehouse__code")).select_related("warehouse")


def the_account(principal: Any, code: str, permission: str = "shipping.view") -> ThreePLAccount:
    """One visible account by its code. Raises `NotFound`."""
    account = visible(principal, permission).filter(code=code).first()
    if account is None:
        raise NotFound("3PL: there is no such account.")
    return account


def hand_offs(principal: Any, permission: str = "shipping.view") -> QuerySet[HandOff]:
    scope = scope_of(principal, permission)
    where = scope.q(warehouse="account__warehouse__code", channel="shipment__order__channel__code")
    return HandOff.objects.filter(where).select_related("account__warehouse", "shipment__order__channel")


def the_hand_off(principal: Any, pk: int, permission: str = "shipping.view") -> HandOff:
    """One visible hand-off. Raises `NotFound`."""
    found = hand_offs(principal, permission).filter(pk=pk).first()
    if found is None:
        raise NotFound("Hand-off: there is no such hand-off.")
    return found


def inbound(principal: Any, permission: str = "shipping.view") -> QuerySet[InboundNotice]:
    """Deliveries that the visible 3PLs expect."""
    scope = scope_of(principal, permission)
    return InboundNotice.objects.filter(scope.q(warehouse="account__warehouse__code")).select_related(
        "account__warehouse"
    )


@dataclass(frozen=True)
class Score:
    """How a 3PL keeps its word over the last 30 days.

    `ack_minutes`: median from sent to acknowledged; `ack_late`: share above the agreed time; `age`: seconds since
    its newest figures; `variance`: units of open differences as a share of units on hand by our books; `open_value`:
    open differences in money; `lost_value`: units written off by its adjustments and accepted figures less those
    found, in money at movement cost; `excess`: units sent that were not owed. None where there is nothing to judge.
    """

    handed: int
    ack_minutes: float | None
    ack_late: Decimal | None
    age: float | None
    variance: Decimal | None
    differences: int
    open_value: Decimal
    lost_value: Decimal
    excess: int
    points: int


def score(account: ThreePLAccount, at: dt.datetime | None = None) -> Score:
    """The live score of one 3PL, 0 to 100 points; each failing costs its share (see `points`)."""
    at = at or now()
    recent = HandOff.objects.filter(account=account, planned_at__gt=at - WINDOW)
    waits = [
        (one.acknowledged_at - one.sent_at).total_seconds() / 60
        for one in recent.only("sent_at", "acknowledged_at")
        if one.sent_at and one.acknowledged_at
    ]
    unheard = recent.filter(
        sent_at__lt=at - dt.timedelta(minutes=account.ack_minutes), acknowledged_at__isnull=True
    ).exclude(state__in=(HandOff.State.CANCELLED, HandOff.State.REFUSED))
    late = sum(wait > account.ack_minutes for wait in waits) + unheard.count()
    judged = len(waits) + unheard.count()
    totals = recent.aggregate(handed=Count("pk", distinct=True), excess=Sum("lines__excess"))
    on_hand = account.warehouse.levels.aggregate(units=Sum("on_hand"))["units"] or 0
    gaps = StockDifference.objects.filter(
        warehouse=account.warehouse_id, state__in=(StockDifference.State.OPEN, StockDifference.State.DISPUTED)
    ).aggregate(
        number=Count("pk"), units=Sum(Abs(F("theirs") - F("ours"))), value=Sum("value")
    )  # fmt: skip
    words = Q(actor=f"3pl:{account.code}", kind__in=("adjust", "snapshot")) | Q(reference__startswith="DF-")
    lost = (
        StockMovement.objects.filter(
            words, warehouse=account.warehouse_id, bucket="on_hand", occurred_at__gt=at - WINDOW
        )
        .exclude(reason="sent without being owed")
        .aggregate(value=Sum(F("quantity") * F("unit_cost")))["value"]
    )
    age = (at - account.last_snapshot_at).total_seconds() if account.last_snapshot_at else None
    variance = Decimal(gaps["units"] or 0) / on_hand if on_hand else None
    ack_late = Decimal(late) / judged if judged else None
    excess = totals["excess"] or 0
    return Score(
        handed=totals["handed"],
        ack_minutes=median(waits) if waits else None,
        ack_late=ack_late,
        age=age,
        variance=variance,
        differences=gaps["number"],
        open_value=gaps["value"] or Decimal(0),
        lost_value=max(Decimal(0), -(lost or Decimal(0))),
        excess=excess,
        points=points(ack_late, age, account.snapshot_minutes, variance, excess, totals["handed"]),
    )


def points(
    ack_late: Decimal | None,
    age: float | None,
    every_minutes: int,
    variance: Decimal | None,
    excess: int,
    handed: int,
) -> int:
    """100 less up to 30 for late acknowledgements, 20 for old figures, 30 for variance, 20 for units sent too much.

    Old figures cost all 20 at three times the agreed interval; a variance of 2 % costs all 30; one unit too much per
    ten hand-offs costs all 20 (pure).
    """
    lost = Decimal(30) * (ack_late or 0)
    if age is not None and every_minutes:
        over = Decimal(age) / 60 / every_minutes - 1
        lost += min(Decimal(20), max(Decimal(0), over * 10))
    lost += min(Decimal(30), (variance or Decimal(0)) * 100 * 15)
    if excess:
        lost += min(Decimal(20), Decimal(excess) * 10 / max(handed, 1) * 20)
    return max(0, round(100 - lost))


def troubled(account: ThreePLAccount) -> QuerySet[ThreePLMessage]:
    """Messages that need a person, newest first."""
    return account.messages.filter(
        Q(state=ThreePLMessage.State.DEAD) | Q(state=ThreePLMessage.State.RECEIVED, attempts__gt=0)
    ).order_by("-pk")
