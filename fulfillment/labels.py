"""Label purchase exactly once: the row is committed before the carrier is asked.

Three outcomes, not two: bought, rejected, unknown. Unknown is never bought again by itself: it is looked up
at the carrier, or decided by a person. At most one live purchase per parcel is the database's word.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Sequence
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.text import slugify

from fulfillment import states
from fulfillment.carriers import tracking_numbers
from fulfillment.carriers.base import (
    Bought,
    BuyRequest,
    NotFoundAtCarrier,
    Rejected,
    Unsupported,
    connector_for,
)
from fulfillment.customs import declaring
from fulfillment.documents.commercial_invoice import goods_value
from fulfillment.models import CarrierAccount, LabelDocument, LabelPurchase, Parcel, RateQuote, Shipment
from fulfillment.packing import live_parcels
from fulfillment.rates import address_of, origin_of, parcel_spec, ship_date
from fulfillment.shipments import locked, set_state, why_not_shippable
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.core.money import quantize
from oms.orders import timeline
from oms.orders.drafts import label_supplier
from oms.orders.validation import clean

#: the connector of carriers whose labels are bought outside of here
OUTSIDE = "elsewhere"
#: a requested row older than this belongs to a process that died between commit and answer
STALE_REQUEST = dt.timedelta(seconds=45)
#: when an unknown outcome is looked up again
RESOLVE_AFTER = (30, 120, 600, 3600)

NAMESPACE = uuid.UUID("6f1d3c0e-5c0a-5e0b-9c55-1ad1465c10ad")


def purchase_key(parcel_id: int, attempt: int) -> uuid.UUID:
    """The idempotency key sent to carriers that honour one: the same parcel and attempt, the same key."""
    return uuid.uuid5(NAMESPACE, f"{parcel_id}:{attempt}")


def buy(shipment_id: int, *, actor: Actor, quote_id: int | None = None) -> list[LabelPurchase]:
    """Buy the labels of all parcels of a packed shipment with the chosen (or named) quote.

    Calling it again buys nothing twice: parcels with a live purchase are left alone. A network failure leaves
    `unknown`, told by an exception item. Raises `UserError`, `Conflict`, `CustomsBlocked` while customs data is
    missing: an item in the inbox says so, and no carrier is asked.
    """
    try:
        claimed = _claim_all(shipment_id, quote_id, actor)
    except declaring.CustomsBlocked as error:
        declaring.tell(shipment_id, error)
        raise
    for purchase in claimed:
        _ask_carrier(purchase.pk, actor)
    _settle(shipment_id, actor)
    return list(LabelPurchase.objects.filter(parcel__shipment=shipment_id).order_by("pk"))


def _claim_all(shipment_id: int, quote_id: int | None, actor: Actor) -> list[LabelPurchase]:
    """The intentions to buy, one per parcel without a label, and what is declared for them, in one transaction."""
    with transaction.atomic():
        shipment = locked(shipment_id)
        blocked = why_not_shippable(shipment.order)
        if blocked:
            raise Conflict(f"label: {blocked}", field="order")
        if supplier := label_supplier(shipment.order.tags):
            raise Conflict(
                f"label: {supplier} supplies the label of {shipment.order.number}; one of ours would not be scanned "
                "there. Buy it there and enter its tracking number here.",
                field="order",
            )
        if shipment.state not in (Shipment.State.PACKED, Shipment.State.LABELLED):
            raise Conflict(
                f"{shipment.number} is {shipment.get_state_display().lower()}: pack it before buying a label.",
                field="state",
            )
        quote = _quote(shipment, quote_id)
        parcels = live_parcels(shipment)
        if LabelPurchase.objects.filter(parcel__in=parcels, state__in=LabelPurchase.LIVE).count() < len(
            parcels
        ):
            declaring.declare(shipment, actor=actor)
        claimed = [p for p in (_claim(shipment, parcel, quote, actor) for parcel in parcels) if p]
        if claimed:
            Shipment.objects.filter(pk=shipment.pk).update(
                carrier_account=quote.account, service_code=quote.service_code
            )
    return claimed


class Doubtful(UserError):
    """A typed number that its carrier hardly gave out: a channel would take it and drop it. A person may insist."""

    code = "doubtful_number"


def _check_number(carrier: str, number: str, sure: bool) -> None:
    if not sure and (sentence := tracking_numbers.doubt(carrier, number)):
        raise Doubtful(
            f"tracking_number: {sentence} Compare it with the label; say that you are sure if it stands there.",
            field="tracking_number",
        )


def enter(
    shipment_id: int, *, carrier: str, tracking_number: str, actor: Actor, parcel_id: int | None = None,
    sure: bool = False,
) -> LabelPurchase:  # fmt: skip
    """Take over a label that was bought outside of here: at the selling channel, over a counter. Nobody is asked.

    It goes to the named parcel of a packed shipment, else to the first one without a label. The same number again
    changes nothing. `sure` takes a number that does not look like one of the carrier. Raises `UserError` (`Doubtful`
    for such a number), `Conflict`, `NotFound`.
    """
    number, name = clean(tracking_number, 80).replace(" ", "").upper(), clean(carrier, 80)
    if not number:
        raise UserError("tracking_number: enter the number on the label.", field="tracking_number")
    if not name:
        raise UserError("carrier: name the carrier on the label, for example USPS.", field="carrier")
    _check_number(name, number, sure)
    with transaction.atomic():
        shipment = locked(shipment_id)
        known = LabelPurchase.objects.filter(tracking_number=number, state=LabelPurchase.State.PURCHASED)
        rival = known.select_related("parcel__shipment").first()
        if rival is not None and rival.parcel.shipment_id == shipment.pk:
            return rival
        if rival is not None:
            raise Conflict(
                f"tracking_number: {number} is the number of {rival.parcel.shipment.number} already.",
                field="tracking_number",
            )
        if blocked := why_not_shippable(shipment.order):
            raise Conflict(f"label: {blocked}", field="order")
        if shipment.state != Shipment.State.PACKED:
            raise Conflict(
                f"{shipment.number} is {shipment.get_state_display().lower()}: a label is entered when it is packed.",
                field="state",
            )
        parcel = _unlabelled(shipment, parcel_id)
        account = _carrier_outside(name)
        attempt = (parcel.purchases.order_by("-attempt").values_list("attempt", flat=True).first() or 0) + 1
        made = LabelPurchase.objects.create(
            parcel=parcel, attempt=attempt, key=purchase_key(parcel.pk, attempt), account=account,
            reference=f"{shipment.number}-{parcel.number}-{attempt}", state=LabelPurchase.State.PURCHASED,
            tracking_number=number, currency=account.currency, requested_by=str(actor), answered_at=now(),
        )  # fmt: skip
        Shipment.objects.filter(pk=shipment.pk).update(carrier_account=account, service_code="")
        timeline.add(shipment.order_id, "label", f"Label bought elsewhere: {account}, {number}", actor=actor)
        close_item(f"label:{parcel.pk}", "a label was entered")
        close_item(f"customs:{shipment.pk}", "a label was entered")
    _settle(shipment_id, actor)
    return made


def _words_of(account: CarrierAccount) -> str:
    """What names the carrier of an account: its name, or the code that channels know it by."""
    code = str(account.config.get("carrier_code") or "")
    return account.name if code.lower() in account.name.lower() else f"{account.name} ({code})"


def _unlabelled(shipment: Shipment, parcel_id: int | None) -> Parcel:
    parcels = live_parcels(shipment)
    if parcel_id is not None:
        parcels = [parcel for parcel in parcels if parcel.pk == parcel_id]
        if not parcels:
            raise NotFound(f"parcel: {shipment.number} has no such parcel.", field="parcel")
    for parcel in parcels:
        if not parcel.purchases.filter(state__in=LabelPurchase.LIVE).exists():
            return parcel
    raise Conflict(f"label: every parcel of {shipment.number} has its label.", field="label")


def _carrier_outside(name: str) -> CarrierAccount:
    """The carrier of labels that are bought elsewhere: never asked for rates, known to channels by its name."""
    row, _ = CarrierAccount.objects.get_or_create(
        code=slugify(f"{OUTSIDE}-{name}")[:40],
        defaults={
            "name": name, "connector": OUTSIDE, "is_active": False,
            "config": {"carrier_code": slugify(name).replace("-", "_")},
        },
    )  # fmt: skip
    return row


def _quote(shipment: Shipment, quote_id: int | None) -> RateQuote:
    quotes = RateQuote.objects.filter(shipment=shipment).select_related("account")
    quote = quotes.filter(pk=quote_id).first() if quote_id else quotes.filter(chosen=True).first()
    if quote is None:
        raise UserError(f"quote: choose a rate for {shipment.number} first.", field="quote")
    return quote


def _claim(shipment: Shipment, parcel: Parcel, quote: RateQuote, actor: Actor) -> LabelPurchase | None:
    """Write the intention to buy; None when the parcel has a live purchase already."""
    if parcel.purchases.filter(state__in=LabelPurchase.LIVE).exists():
        return None
    attempt = (parcel.purchases.order_by("-attempt").values_list("attempt", flat=True).first() or 0) + 1
    parcels = max(1, len(live_parcels(shipment)))
    try:
        with transaction.atomic():
            return LabelPurchase.objects.create(
                parcel=parcel,
                attempt=attempt,
                key=purchase_key(parcel.pk, attempt),
                account=quote.account,
                service_code=quote.service_code,
                reference=f"{shipment.number}-{parcel.number}-{attempt}",
                quoted=quote.amount / parcels if parcels > 1 else quote.amount,
                currency=quote.currency,
                requested_by=str(actor),
            )
    except IntegrityError:  # another process was quicker
        return None


def _request(purchase: LabelPurchase) -> BuyRequest:
    parcel = purchase.parcel
    shipment = parcel.shipment
    numbers = [other.number for other in live_parcels(shipment)]
    declared = declaring.kept(shipment) if declaring.needed(shipment) else None
    customs = declared.parcel(parcel.number) if declared else ()
    return BuyRequest(
        service=purchase.service_code,
        origin=origin_of(shipment.warehouse),
        destination=address_of(shipment.order),
        parcel=parcel_spec(parcel),
        reference=purchase.reference,
        ship_date=ship_date(shipment.warehouse),
        origin_group=shipment.warehouse.code,
        parcel_number=numbers.index(parcel.number) + 1,
        parcel_count=len(numbers),
        order_number=shipment.order.number,
        currency=shipment.order.currency,
        declared_value=goods_value(customs) if declared else None,
        customs=customs,
        incoterm=declared.incoterm if declared else "",
        customs_numbers=declared.numbers if declared else {},
    )


def _ask_carrier(purchase_id: int, actor: Actor) -> None:
    """One call outside any transaction; the answer is stored in its own."""
    purchase = LabelPurchase.objects.select_related(
        "account",
        "parcel__shipment__order__contact",
        "parcel__shipment__order__channel",
        "parcel__shipment__warehouse",
    ).get(pk=purchase_id)
    if purchase.state != LabelPurchase.State.REQUESTED:
        return
    outcome = connector_for(purchase.account).buy(_request(purchase), key=str(purchase.key))
    if isinstance(outcome, Bought):
        adopt(purchase_id, outcome, actor=actor)
    elif isinstance(outcome, Rejected):
        _reject(purchase_id, outcome.problem.message, actor)
    else:
        _unknown(purchase_id, outcome.problem.message, actor)


def adopt(purchase_id: int, bought: Bought, *, actor: Actor) -> None:
    """Store a bought label: documents first, then the state. A second label for the parcel is never stored twice."""
    with transaction.atomic():
        for name, content in bought.documents.items():
            LabelDocument.objects.get_or_create(
                purchase_id=purchase_id,
                format=name,
                defaults={"content": content, "sha256": hashlib.sha256(content).hexdigest()},
            )
        changed = LabelPurchase.objects.filter(
            pk=purchase_id, state__in=[LabelPurchase.State.REQUESTED, LabelPurchase.State.UNKNOWN]
        ).update(
            state=LabelPurchase.State.PURCHASED,
            carrier_ref=bought.carrier_ref,
            tracking_number=bought.tracking_number,
            cost=bought.cost,
            currency=bought.currency,
            warning=bought.warning[:400],
            error="",
            answered_at=now(),
            next_attempt_at=None,
        )
        if not changed:
            return
        purchase = LabelPurchase.objects.select_related("parcel__shipment", "account").get(pk=purchase_id)
        price = (
            f"{quantize(purchase.cost, purchase.currency)} {purchase.currency}"
            if purchase.cost is not None
            else ""
        )
        text = f"Label bought: {purchase.account} {purchase.service_code} {price}, {purchase.tracking_number}"
        timeline.add(purchase.parcel.shipment.order_id, "label", text, actor=actor)
        close_item(f"label:{purchase.parcel_id}", "label bought")
        if purchase.quoted is not None and purchase.cost is not None and purchase.cost > purchase.quoted:
            raise_item(
                "label_cost",
                f"label-cost:{purchase.pk}",
                f"{purchase.reference}: label cost more than quoted",
                detail=f"quoted {purchase.quoted}, charged {purchase.cost} {purchase.currency}",
                url=f"/shipments/{purchase.parcel.shipment_id}",
                money=purchase.cost - purchase.quoted,
            )


def _reject(purchase_id: int, message: str, actor: Actor) -> None:
    with transaction.atomic():
        changed = LabelPurchase.objects.filter(pk=purchase_id, state=LabelPurchase.State.REQUESTED).update(
            state=LabelPurchase.State.REJECTED, error=message[:400], answered_at=now()
        )
        if changed:
            _tell(purchase_id, f"label refused by the carrier: {message}", actor)


def _unknown(purchase_id: int, message: str, actor: Actor) -> None:
    with transaction.atomic():
        changed = LabelPurchase.objects.filter(
            pk=purchase_id, state__in=[LabelPurchase.State.REQUESTED, LabelPurchase.State.UNKNOWN]
        ).update(
            state=LabelPurchase.State.UNKNOWN,
            error=message[:400],
            next_attempt_at=now() + dt.timedelta(seconds=RESOLVE_AFTER[0]),
        )
        if changed:
            _tell(purchase_id, f"outcome of the label purchase is unknown: {message}", actor)


def _tell(purchase_id: int, text: str, actor: Actor) -> None:
    purchase = LabelPurchase.objects.select_related("parcel__shipment__warehouse").get(pk=purchase_id)
    shipment = purchase.parcel.shipment
    timeline.add(shipment.order_id, "label", text, actor=actor)
    what, _, why = text.partition(": ")
    raise_item(
        "label_failed",
        f"label:{purchase.parcel_id}",
        f"{shipment.number}: {what}",
        detail=why,
        url=f"/shipments/{shipment.pk}",
        warehouse_code=shipment.warehouse.code,
        due_at=shipment.ship_by,
    )


def _settle(shipment_id: int, actor: Actor) -> None:
    """Labelled when every live parcel has its label."""
    with transaction.atomic():
        shipment = locked(shipment_id)
        parcels = live_parcels(shipment)
        bought = LabelPurchase.objects.filter(parcel__in=parcels, state=LabelPurchase.State.PURCHASED).count()
        if shipment.state == Shipment.State.PACKED and parcels and bought == len(parcels):
            set_state(shipment, Shipment.State.LABELLED)


def resolve_due(*, actor: Actor, limit: int = 50) -> int:
    """Finish what dead processes left: look up purchases whose outcome nobody knows, ask again for labels to be given
    back, and let shipments that have all their labels go on. Returns how many were settled.
    """
    moment = now()
    due = LabelPurchase.objects.filter(
        Q(state=LabelPurchase.State.REQUESTED, requested_at__lt=moment - STALE_REQUEST)
        | Q(state=LabelPurchase.State.UNKNOWN, next_attempt_at__lte=moment)
        | Q(state=LabelPurchase.State.VOID_PENDING, next_attempt_at__lte=moment)
    ).order_by("pk")[:limit]
    done = 0
    for purchase in due:
        voiding = purchase.state == LabelPurchase.State.VOID_PENDING
        done += _void_again(purchase.pk, actor) if voiding else resolve(purchase.pk, actor=actor)
    bought = LabelPurchase.objects.filter(
        parcel__shipment=OuterRef("pk"),
        state=LabelPurchase.State.PURCHASED,
        answered_at__lt=moment - STALE_REQUEST,
    )
    labelled = Parcel.objects.filter(pk=OuterRef("pk"), purchases__state=LabelPurchase.State.PURCHASED)
    bare = Parcel.objects.filter(shipment=OuterRef("pk"), items__isnull=False).exclude(Exists(labelled))
    left = Shipment.objects.filter(Exists(bought), ~Exists(bare), state=Shipment.State.PACKED)
    for shipment_id in left.order_by("pk").values_list("pk", flat=True)[:limit]:
        _settle(shipment_id, actor)
        done += 1
    return done


def _void_again(purchase_id: int, actor: Actor) -> bool:
    """The process that gave a label back died before it heard the answer: the carrier is asked once more."""
    moment = now()
    mine = LabelPurchase.objects.filter(
        pk=purchase_id, state=LabelPurchase.State.VOID_PENDING, next_attempt_at__lte=moment
    )
    if not mine.update(next_attempt_at=moment + STALE_REQUEST):
        return False
    _give_back(purchase_id, actor, again=True)
    return True


def resolve(purchase_id: int, *, actor: Actor) -> bool:
    """Ask the carrier by key and reference whether the label exists. True when the question is settled."""
    moment = now()
    with transaction.atomic():
        claimed = (
            LabelPurchase.objects.filter(pk=purchase_id)
            .filter(
                Q(state=LabelPurchase.State.REQUESTED, requested_at__lt=moment - STALE_REQUEST)
                | Q(state=LabelPurchase.State.UNKNOWN)
            )
            .update(state=LabelPurchase.State.UNKNOWN, next_attempt_at=moment + dt.timedelta(seconds=60))
        )
    if not claimed:
        return False
    purchase = LabelPurchase.objects.select_related("account", "parcel__shipment").get(pk=purchase_id)
    outcome = connector_for(purchase.account).resolve(key=str(purchase.key), reference=purchase.reference)
    if isinstance(outcome, Bought):
        adopt(purchase_id, outcome, actor=actor)
        _settle(purchase.parcel.shipment_id, actor)
        return True
    attempts = purchase.resolve_attempts + 1
    if isinstance(outcome, NotFoundAtCarrier) and attempts >= 2:
        # seen twice as missing, the second time after the carrier had time to show it
        decide_not_bought(purchase_id, actor=actor, why="the carrier does not know it")
        return True
    unsupported = isinstance(outcome, Unsupported)
    wait = RESOLVE_AFTER[min(attempts, len(RESOLVE_AFTER) - 1)]
    with transaction.atomic():
        LabelPurchase.objects.filter(pk=purchase_id, state=LabelPurchase.State.UNKNOWN).update(
            resolve_attempts=attempts,
            next_attempt_at=None if unsupported else now() + dt.timedelta(seconds=wait),
        )
        if unsupported:
            _tell(purchase_id, "this carrier cannot be asked: decide whether the label was bought", actor)
    return False


def decide_not_bought(purchase_id: int, *, actor: Actor, why: str = "decided by a person") -> None:
    """Free the parcel for a new attempt. Only from `unknown`."""
    with transaction.atomic():
        purchase = LabelPurchase.objects.select_related("parcel__shipment").filter(pk=purchase_id).first()
        if purchase is None:
            raise NotFound("label: there is no such purchase.", field="label")
        states.check(states.LABEL, purchase.reference, purchase.state, LabelPurchase.State.NOT_BOUGHT)
        LabelPurchase.objects.filter(pk=purchase_id, state=LabelPurchase.State.UNKNOWN).update(
            state=LabelPurchase.State.NOT_BOUGHT, answered_at=now(), next_attempt_at=None
        )
        timeline.add(
            purchase.parcel.shipment.order_id,
            "label",
            f"{purchase.reference} was not bought: {why}",
            actor=actor,
        )
        close_item(f"label:{purchase.parcel_id}", why)


def decide_bought(purchase_id: int, *, tracking_number: str, actor: Actor, sure: bool = False) -> None:
    """A person found the label at the carrier: adopt its tracking number.

    `sure` takes a number that does not look like one of the carrier. Raises `UserError`, `Doubtful` for such a number.
    """
    if not tracking_number.strip():
        raise UserError("tracking_number: enter the number on the label.", field="tracking_number")
    purchase = LabelPurchase.objects.select_related("parcel", "account").get(pk=purchase_id)
    states.check(states.LABEL, purchase.reference, purchase.state, LabelPurchase.State.PURCHASED)
    _check_number(_words_of(purchase.account), tracking_number, sure)
    adopt(
        purchase_id,
        Bought(
            tracking_number=tracking_number.strip(),
            carrier_ref="",
            cost=purchase.quoted or Decimal(0),
            currency=purchase.currency,
            documents={},
        ),
        actor=actor,
    )
    _settle(purchase.parcel.shipment_id, actor)


def void(purchase_id: int, *, actor: Actor) -> LabelPurchase:
    """Give a label back before the parcel left; its cost leaves the report. Raises `Conflict`, `UserError`."""
    with transaction.atomic():
        purchase = (
            LabelPurchase.objects.select_related("account", "parcel__shipment").filter(pk=purchase_id).first()
        )
        if purchase is None:
            raise NotFound("label: there is no such purchase.", field="label")
        shipment = locked(purchase.parcel.shipment_id)
        if shipment.state in (Shipment.State.SHIPPED, Shipment.State.DELIVERED):
            raise Conflict(f"{shipment.number} left already: its label cannot be voided.", field="label")
        purchase.refresh_from_db()
        if purchase.state == LabelPurchase.State.VOID:
            return purchase
        states.check(states.LABEL, purchase.reference, purchase.state, LabelPurchase.State.VOID_PENDING)
        LabelPurchase.objects.filter(pk=purchase_id).update(
            state=LabelPurchase.State.VOID_PENDING, next_attempt_at=now() + STALE_REQUEST
        )
    _give_back(purchase_id, actor)
    purchase.refresh_from_db()
    return purchase


def _give_back(purchase_id: int, actor: Actor, *, again: bool = False) -> None:
    """Ask the carrier outside any transaction and store its answer. `again`: it may have heard this before."""
    purchase = LabelPurchase.objects.select_related("account", "parcel").get(pk=purchase_id)
    problem = None
    if purchase.account.connector != OUTSIDE:  # there the person who bought it gives it back
        problem = connector_for(purchase.account).void(
            tracking_number=purchase.tracking_number, carrier_ref=purchase.carrier_ref
        )
    with transaction.atomic():
        shipment = locked(purchase.parcel.shipment_id)
        pending = LabelPurchase.objects.filter(pk=purchase_id, state=LabelPurchase.State.VOID_PENDING)
        if problem:
            if not pending.update(
                state=LabelPurchase.State.PURCHASED, error=problem.message[:400], next_attempt_at=None
            ):
                return  # somebody else heard the answer first
            lost = (
                " It was asked twice, because the first answer was lost: look there whether the label still counts "
                "before the parcel leaves."
            )
            raise_item(
                "void_failed",
                f"void:{purchase_id}",
                f"{shipment.number}: the label could not be voided",
                detail=f"{problem.message}{lost if again else ''}",
                url=f"/shipments/{shipment.pk}",
            )
        elif pending.update(state=LabelPurchase.State.VOID, voided_at=now(), error="", next_attempt_at=None):
            timeline.add(shipment.order_id, "label", f"label {purchase.tracking_number} voided", actor=actor)
            close_item(f"void:{purchase_id}", "voided")
            if shipment.state == Shipment.State.LABELLED:
                set_state(shipment, Shipment.State.PACKED)


def documents(shipment_ids: Sequence[int], fmt: str) -> list[bytes]:
    """Label files of bought labels in the given order of shipments, for one print run."""
    found = LabelDocument.objects.filter(
        purchase__parcel__shipment__in=shipment_ids, purchase__state=LabelPurchase.State.PURCHASED, format=fmt
    ).select_related("purchase__parcel")
    order = {pk: index for index, pk in enumerate(shipment_ids)}
    ranked = sorted(found, key=lambda d: (order[d.purchase.parcel.shipment_id], d.purchase.parcel.number))
    return [bytes(document.content) for document in ranked]
