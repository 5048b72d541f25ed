"""Rate shopping: ask every carrier of the warehouse, keep every answer with the reason it won or lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db import close_old_connections, transaction

from fulfillment.carriers.base import (
    IN_HOUSE,
    AddressSpec,
    ParcelSpec,
    Problem,
    ProblemKind,
    QuoteRequest,
    QuoteResult,
    Rate,
    connector_for,
)
from fulfillment.customs import declaring
from fulfillment.models import CarrierAccount, LabelPurchase, Parcel, RateQuote, Shipment
from fulfillment.packing import live_parcels
from fulfillment.shipments import locked, why_not_shippable
from inventory.models import Warehouse
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.orders.models import Order

#: one hanging carrier never costs more than this, in seconds
DEADLINE = 4.0


def origin_of(warehouse: Warehouse) -> AddressSpec:
    """The warehouse as a carrier sees it."""
    return AddressSpec(
        name=warehouse.name,
        company=warehouse.company,
        street1=warehouse.address1,
        street2=warehouse.address2,
        city=warehouse.city,
        region=warehouse.region,
        postal_code=warehouse.postal_code,
        country=warehouse.country,
        phone=warehouse.phone,
        residential=False,
    )


def address_of(order: Order) -> AddressSpec:
    """The buyer's address. Raises `UserError` when it was erased or never told."""
    contact = getattr(order, "contact", None)
    data = contact.data if contact else {}
    if not data.get("address1"):
        raise UserError(f"address: {order.number} has no street address to ship to.", field="address")
    return AddressSpec(
        name=data.get("name", ""),
        company=data.get("company", ""),
        street1=data.get("address1", ""),
        street2=data.get("address2", ""),
        street3=data.get("address3", ""),
        city=data.get("city", ""),
        region=data.get("region", ""),
        postal_code=data.get("postal_code", ""),
        country=data.get("country", ""),
        phone=data.get("phone", ""),
        email=data.get("email", ""),
        residential=order.residential,
    )


def parcel_spec(parcel: Parcel) -> ParcelSpec:
    return ParcelSpec(parcel.weight_g, parcel.length_mm, parcel.width_mm, parcel.height_mm)


@dataclass(frozen=True, slots=True)
class Offer:
    """A rate of one account, as the choice sees it."""

    account: str
    preference: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class Choice:
    """`chosen` is None when no offer arrives in time: then a person decides. `reasons` has one per offer."""

    chosen: Offer | None
    reasons: tuple[str, ...]
    sentence: str


def choose(offers: Sequence[Offer], deliver_by: dt.date | None) -> Choice:
    """The cheapest offer that arrives in time; ties go to the preferred account, then the quicker one (pure).

    Offers in another currency than the first are never compared. An unknown transit time counts as late when
    there is a deadline.
    """
    if not offers:
        return Choice(None, (), "No carrier offers a rate for this shipment.")
    currency = offers[0].rate.currency

    def in_time(offer: Offer) -> bool:
        return deliver_by is None or (
            offer.rate.arrives_on is not None and offer.rate.arrives_on <= deliver_by
        )

    comparable = [o for o in offers if o.rate.currency == currency and in_time(o)]
    if not comparable:
        cheapest = min(offers, key=lambda o: o.rate.amount)
        known = [o for o in offers if o.rate.arrives_on]
        fastest = min(known, key=lambda o: (o.rate.arrives_on, o.rate.amount)) if known else None
        sentence = f"No service arrives by {deliver_by}. "
        sentence += f"Cheapest: {cheapest.rate.service_name} {cheapest.rate.amount} {currency}"
        if fastest:
            sentence += f"; fastest: {fastest.rate.service_name}, {fastest.rate.arrives_on}"
        return Choice(
            None,
            tuple(f"arrives {o.rate.arrives_on or 'at an unknown day'}, after {deliver_by}" for o in offers),
            sentence + ".",
        )
    best = min(
        comparable,
        key=lambda o: (o.rate.amount, o.preference, o.rate.transit_days or 99, o.account, o.rate.service),
    )
    reasons = []
    for offer in offers:
        if offer is best:
            reasons.append(f"cheapest of {len(comparable)} in time" if deliver_by else "cheapest")
        elif offer.rate.currency != currency:
            reasons.append(f"priced in {offer.rate.currency}, not comparable")
        elif not in_time(offer):
            reasons.append(f"arrives {offer.rate.arrives_on or 'at an unknown day'}, after {deliver_by}")
        elif offer.rate.amount == best.rate.amount:
            reasons.append("same price, less preferred")
        else:
            reasons.append(f"{offer.rate.amount - best.rate.amount} {currency} more")
    return Choice(best, tuple(reasons), f"{best.rate.service_name} {best.rate.amount} {currency}")


def accounts_for(warehouse: Warehouse) -> list[CarrierAccount]:
    """Active carrier accounts usable from a warehouse, preferred first."""
    return [
        account
        for account in CarrierAccount.objects.filter(is_active=True).prefetch_related("warehouses")
        if not account.warehouses.all() or warehouse in account.warehouses.all()
    ]


def ask(
    accounts: Iterable[CarrierAccount], request: QuoteRequest, deadline: float = DEADLINE
) -> dict[int, QuoteResult]:
    """Ask all accounts; those that call out do it side by side, late ones become a `deadline` problem."""
    answers: dict[int, QuoteResult] = {}
    remote = []
    for account in accounts:
        if account.connector in IN_HOUSE:
            answers[account.pk] = connector_for(account).quote(request)
        else:
            remote.append(account)
    if not remote:
        return answers

    def one(account: CarrierAccount) -> QuoteResult:
        try:
            return connector_for(account).quote(request)
        finally:
            close_old_connections()

    pool = ThreadPoolExecutor(max_workers=len(remote))
    futures = {pool.submit(one, account): account for account in remote}
    done, late = wait(futures, timeout=deadline)
    for future in done:
        answers[futures[future].pk] = future.result()
    for future in late:
        problem = Problem(ProblemKind.DEADLINE, f"{futures[future]} did not answer within {deadline:g} s")
        answers[futures[future].pk] = QuoteResult(problems=(problem,))
    pool.shutdown(wait=False, cancel_futures=True)
    return answers


def ship_date(warehouse: Warehouse) -> dt.date:
    """Today on the warehouse's wall."""
    return now().astimezone(ZoneInfo(warehouse.time_zone)).date()


def shop(shipment_id: int) -> list[RateQuote]:
    """Ask all carriers for a packed shipment, store every answer and mark the choice. Asking twice replaces.

    Raises `Conflict` (not packed, on hold), `UserError` (no address, no carrier), `CustomsBlocked` while customs data
    of a parcel abroad is missing: carriers are not asked, and an item in the inbox says so.
    """
    shipment = (
        Shipment.objects.select_related("order__channel", "order__contact", "warehouse")
        .filter(pk=shipment_id)
        .first()
    )
    if shipment is None:
        raise NotFound("shipment: there is no such shipment.", field="shipment")
    blocked = why_not_shippable(shipment.order)
    if blocked:
        raise Conflict(blocked, field="order")
    if shipment.state != Shipment.State.PACKED:
        raise Conflict(
            f"{shipment.number} is {shipment.get_state_display().lower()}: pack it before asking for rates.",
            field="state",
        )
    declaration = declaring.read(shipment)
    try:
        declaring.require_complete(shipment, declaration)
    except declaring.CustomsBlocked as error:
        declaring.tell(shipment_id, error)
        raise
    accounts = accounts_for(shipment.warehouse)
    if not accounts:
        raise UserError(
            f"carrier: no carrier account may be used from {shipment.warehouse}.", field="carrier"
        )
    request = QuoteRequest(
        origin=origin_of(shipment.warehouse),
        destination=address_of(shipment.order),
        parcels=tuple(parcel_spec(parcel) for parcel in live_parcels(shipment)),
        ship_date=ship_date(shipment.warehouse),
        origin_group=shipment.warehouse.code,
        currency=shipment.order.currency,
        declared_value=declaration.value if declaration else None,
    )
    answers = ask(accounts, request)
    by_id = {account.pk: account for account in accounts}
    offers = [
        (by_id[pk], Offer(by_id[pk].code, by_id[pk].preference, rate))
        for pk, answer in answers.items()
        for rate in answer.rates
    ]
    offers.sort(key=lambda pair: (pair[1].rate.amount, pair[1].account, pair[1].rate.service))
    zone = ZoneInfo(shipment.warehouse.time_zone)
    deliver_by = shipment.order.deliver_by.astimezone(zone).date() if shipment.order.deliver_by else None
    choice = choose([offer for _, offer in offers], deliver_by)
    with transaction.atomic():
        locked(shipment_id)
        if LabelPurchase.objects.filter(parcel__shipment=shipment_id, state__in=LabelPurchase.LIVE).exists():
            raise Conflict(f"{shipment.number} has a label already.", field="label")
        RateQuote.objects.filter(shipment=shipment_id).delete()
        quotes = RateQuote.objects.bulk_create(
            RateQuote(
                shipment_id=shipment_id,
                account=account,
                service_code=offer.rate.service,
                service_name=offer.rate.service_name[:80],
                amount=offer.rate.amount,
                currency=offer.rate.currency,
                transit_days=offer.rate.transit_days,
                arrives_on=offer.rate.arrives_on,
                zone=offer.rate.zone,
                is_estimate=offer.rate.is_estimate,
                breakdown=[[charge.code, charge.name, str(charge.amount)] for charge in offer.rate.charges],
                chosen=offer is choice.chosen,
                reason=reason[:200],
            )
            for (account, offer), reason in zip(offers, choice.reasons, strict=True)
        )
    if not quotes:
        problems = "; ".join(problem.message for answer in answers.values() for problem in answer.problems)
        raise UserError(
            f"rates: no carrier offers a rate for {shipment.number}. {problems}"[:400], field="carrier"
        )
    return quotes


def pick_quote(quote_id: int) -> RateQuote:
    """A person chooses another rate than the proposed one."""
    with transaction.atomic():
        quote = RateQuote.objects.filter(pk=quote_id).first()
        if quote is None:
            raise NotFound("quote: there is no such rate; ask for rates again.", field="quote")
        locked(quote.shipment_id)
        RateQuote.objects.filter(shipment=quote.shipment_id).update(chosen=False)
        RateQuote.objects.filter(pk=quote_id).update(chosen=True, reason="chosen by a person")
    quote.refresh_from_db()
    return quote
