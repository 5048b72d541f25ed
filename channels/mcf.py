"""Orders of other channels, shipped from a channel's own warehouse (Amazon: Multi-Channel Fulfillment, MCF).

A shipment that routing gave to the FBA pool becomes a hand-off like any 3PL's (`fulfillment.threepl`), and Amazon is
its partner: created once under our reference, looked up when the answer is lost, taken back only after Amazon says so.
Amazon's answers are turned into the messages that 3PLs send, so that booking is the same. News come by notification
and by a poll.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Max

from channels import asking
from channels.connectors.base import (
    ChannelError,
    OutboundItem,
    OutboundOffer,
    OutboundOrder,
    OutboundState,
    Retry,
    get_connector,
)
from channels.models import ChannelAccount, Listing, LocationMap
from channels.selectors import pool_of
from channels.session import Make, do
from fulfillment.models import HandOff, HandOffLine, ThreePLAccount, ThreePLCall, ThreePLMessage
from fulfillment.threepl import accounts, inbox, transports
from inventory.models import Sku, Warehouse
from oms.core.actor import Actor, task_actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.errors import NotFound, UserError
from oms.core.http import HttpFailure
from oms.core.http import Kind as Failure
from oms.core.money import plain
from oms.orders import timeline
from oms.orders.models import SalesChannel

T = TypeVar("T")
KIND = ThreePLAccount.Kind.MCF
State = HandOff.State
#: hand-offs that Amazon may have news of
OPEN = (State.SENT, State.IN_DOUBT, State.CONFIRMED, State.ACKNOWLEDGED)
#: a parcel without a tracking number is waited for so long
TRACKING_WAIT = dt.timedelta(hours=24)
#: the list of changes is read this far back; what was not heard of for longer is read by itself
LOOK_BACK = dt.timedelta(days=1)
READS = 20
#: a list of changes that never ends is left there; what it did not name is read by itself in its turn
MAX_PAGES = 500
#: clocks of both houses may differ
SKEW = dt.timedelta(minutes=5)
_FAST = {
    "Priority": ("priority", "overnight", "next", "one day", "1 day", "1-day", "same", "express", "oneday"),
    "Expedited": ("expedited", "two day", "2 day", "2-day", "second", "twoday"),
}
_KINDS = {
    Retry.AUTH: Failure.TRANSIENT,  # the channel's account waits for a person; the order waits with it
    Retry.THROTTLED: Failure.THROTTLED,
    Retry.TRANSIENT: Failure.TRANSIENT,
    Retry.REJECTED: Failure.REJECTED,
    Retry.IN_DOUBT: Failure.TIMEOUT_AFTER_SEND,
    Retry.STALE: Failure.TRANSIENT,
}


# --- decisions (pure) ------------------------------------------------------------------------------


def speed_asked(service: str) -> str:
    """The slowest speed that keeps what the buyer paid for, by the words of the service."""
    words = service.replace("_", " ").lower()
    return next((speed for speed, names in _FAST.items() if any(name in words for name in names)), "Standard")


def choose_offer(
    offers: Sequence[OutboundOffer], deliver_by: dt.datetime | None, service: str
) -> tuple[OutboundOffer | None, str]:
    """The slowest speed that keeps the promise, and why; offers come slowest first.

    Without one in time the fastest. Without a promised day the speed follows the service that the buyer chose. None
    where nothing can be shipped: the words then say why.
    """
    able = [offer for offer in offers if offer.fulfillable]
    if not able:
        why = {reason for offer in offers for reason in offer.reasons}
        return None, "; ".join(sorted(why)) or "no shipping speed is offered"
    if deliver_by is not None:
        dated = [offer for offer in able if offer.arrives_by is not None]
        for offer in dated:
            if offer.arrives_by is not None and offer.arrives_by <= deliver_by:
                return offer, f"the slowest that arrives by {deliver_by:%Y-%m-%d}"
        if dated:
            best = min(dated, key=lambda offer: offer.arrives_by or deliver_by)
            return best, f"the fastest, and late: nothing arrives by {deliver_by:%Y-%m-%d}"
    asked = speed_asked(service)
    names = [offer.speed for offer in able]
    if asked in names:
        return able[names.index(asked)], f"the order's service is {service or 'standard'}"
    return able[-1], f"{asked} is not offered"


# --- who ships for whom ----------------------------------------------------------------------------


def partner_of(account: ChannelAccount) -> ThreePLAccount | None:
    """The account under which the channel's own warehouse ships for other channels; None = not switched on."""
    pool = pool_of(account)
    return ThreePLAccount.objects.filter(kind=KIND, warehouse=pool).first() if pool else None


def channel_of(partner: ThreePLAccount) -> ChannelAccount:
    """Whose warehouse it is. Raises `HttpFailure` where no connected account has the pool any more."""
    entries = LocationMap.objects.filter(warehouse=partner.warehouse_id).select_related("account")
    for entry in entries.order_by("pk"):
        if get_connector(entry.account.connector).capabilities.ships_for_others:
            if entry.account.state == ChannelAccount.State.CONNECTED:
                return entry.account
            raise HttpFailure(
                Failure.TRANSIENT, f"the account is {entry.account.get_state_display().lower()}"
            )
    raise HttpFailure(Failure.TRANSIENT, f"no channel account has the pool {partner.warehouse} any more")


def switch_on(account_id: int, *, actor: Actor) -> accounts.Tested:
    """Let the channel's own warehouse ship for other channels, proved by a call. Raises `UserError`, `Conflict`."""
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    if not get_connector(account.connector).capabilities.ships_for_others:
        raise UserError("channel: its warehouses do not ship orders of other channels.", field="channel")
    pool = pool_of(account)
    if pool is None or pool.kind != Warehouse.Kind.FBA:
        raise UserError(
            "warehouse: map the channel's own warehouse to a warehouse of the kind Amazon FBA first.",
            field="warehouse",
        )
    partner = partner_of(account)
    if partner is None:
        partner = accounts.connect(
            code=f"mcf-{account.sales_channel.code}"[:30], name=f"{account.sales_channel.name} MCF"[:80],
            warehouse_id=pool.pk, kind=KIND, actor=actor,
        )  # fmt: skip
    if partner.state == ThreePLAccount.State.PAUSED:
        return accounts.resume(partner.pk, actor=actor)
    return accounts.test(partner.pk, actor=actor)


def switch_off(account_id: int, reason: str, *, actor: Actor) -> None:
    """No more orders go out this way; what is on its way is followed to its end. Raises `UserError`."""
    partner = partner_of(ChannelAccount.objects.get(pk=account_id))
    if partner is None:
        raise NotFound("channel: it ships for no other channel.", field="channel")
    accounts.pause(partner.pk, reason, actor=actor)


def set_options(account_id: int, *, comment: str, neutral: Iterable[str], actor: Actor) -> ThreePLAccount:
    """What stands on packing slips, and which channels get plain boxes without Amazon's own drivers.

    Channels whose rules ask for plain parcels (Walmart) get them anyway. Raises `UserError`, `NotFound`.
    """
    partner = partner_of(ChannelAccount.objects.get(pk=account_id))
    if partner is None:
        raise NotFound("channel: switch the fulfillment of other channels' orders on first.", field="channel")
    if len(comment) > 750:
        raise UserError("comment: at most 750 characters.", field="comment")
    codes = sorted(set(neutral))
    known = set(SalesChannel.objects.filter(code__in=codes).values_list("code", flat=True))
    unknown = [code for code in codes if code not in known]
    if unknown:
        raise UserError(f"neutral: there is no channel '{unknown[0]}'.", field="neutral")
    return accounts.change(
        partner.pk, actor=actor, options={**partner.options, "comment": comment.strip(), "neutral": codes}
    )


def allow(listing_id: int, allowed: bool, *, actor: Actor) -> Listing:
    """May units of the SKU behind a listing that the channel ships serve orders of other channels?

    It holds for the SKU, whatever else lists it. Raises `NotFound`, `UserError`.
    """
    listing = Listing.objects.select_related("sku").filter(pk=listing_id).first()
    if listing is None:
        raise NotFound("listing: no such listing.", field="listing")
    if listing.sku is None or listing.fulfilment != Listing.Fulfilment.CHANNEL:
        raise UserError("listing: choose one that the channel ships and that has a SKU.", field="listing")
    if listing.sku.mcf_allowed != allowed:
        with transaction.atomic():
            Sku.objects.filter(pk=listing.sku.pk).update(mcf_allowed=allowed)
            record(
                actor, "sku.mcf_allowed", listing.sku, before={"mcf_allowed": not allowed},
                after={"mcf_allowed": allowed},
            )  # fmt: skip
        listing.sku.refresh_from_db()
    return listing


def is_neutral(partner: ThreePLAccount, channel: SalesChannel) -> bool:
    """Must parcels for this channel's buyers be without Amazon's brand and drivers?"""
    if channel.code in partner.options.get("neutral", ()):
        return True
    seller = ChannelAccount.objects.filter(sales_channel=channel).first()
    return seller is not None and get_connector(seller.connector).capabilities.neutral_parcels


def forced_neutral() -> set[str]:
    """Codes of channels whose rules ask for neutral parcels."""
    return {
        code
        for code, connector in ChannelAccount.objects.values_list("sales_channel__code", "connector")
        if get_connector(connector).capabilities.neutral_parcels
    }


# --- there -----------------------------------------------------------------------------------------


def reference_of(partner: ThreePLAccount, reference: str) -> str:
    """Our id of the order there: unique in the seller's account, whatever else ships from it. At most 40 characters."""
    return f"{reference}-{partner.hook_key[:8]}"


def _order(partner: ThreePLAccount, account: ChannelAccount, body: Mapping[str, Any]) -> OutboundOrder:
    """The hand-off as an outbound order. Raises `HttpFailure` REJECTED for goods that Amazon does not have."""
    hand_off = HandOff.objects.select_related("shipment__order__channel").get(
        account=partner, reference=body["reference"]
    )
    order = hand_off.shipment.order
    lines = {line.number: line for line in hand_off.lines.select_related("sku")}
    offers: dict[int, list[tuple[str, int]]] = {}
    for sku_id, code, pack in (
        Listing.objects.filter(
            account=account, fulfilment=Listing.Fulfilment.CHANNEL, state=Listing.State.ACTIVE,
            sku__in=[line.sku_id for line in lines.values()],
        ).order_by("pack_size", "pk").values_list("sku_id", "external_sku", "pack_size")
    ):  # fmt: skip
        offers.setdefault(sku_id or 0, []).append((code, pack))
    items = []
    for entry in body["lines"]:
        line = lines[entry["line"]]
        fits = [(code, pack) for code, pack in offers.get(line.sku_id, ()) if entry["quantity"] % pack == 0]
        if not fits:
            raise HttpFailure(
                Failure.REJECTED,
                f"{line.sku} has no FBA listing there that {entry['quantity']} units can be taken of.",
            )
        items.append(OutboundItem(str(line.number), fits[0][0], entry["quantity"] // fits[0][1]))
    return OutboundOrder(
        reference=reference_of(partner, hand_off.reference),
        display_number=order.external_number or order.number,
        placed_at=order.placed_at,
        address=body["ship_to"],
        items=tuple(items),
        neutral=is_neutral(partner, order.channel),
        comment=str(partner.options.get("comment", "")),
    )  # fmt: skip


def _is_ours(state: OutboundState, hand_off: HandOff) -> bool:
    """The same lines: an order that another system made under our reference is not ours."""
    lines = {str(line.number): line.quantity for line in hand_off.lines.all()}
    return bool(state.items) and all(
        item.line in lines and item.quantity <= lines[item.line] for item in state.items
    )


class Transport:
    """`fulfillment.threepl.transports.Transport` over the channel's port."""

    CANCELS_WHOLE = True
    REROUTES = True

    def ping(self, account: ThreePLAccount) -> dict[str, Any]:
        """Asks for the newest changes: proves the right to use the outbound operations."""
        channel = channel_of(account)
        _ask(channel, asking.changed_outbound(now() - SKEW, ""))
        return {"name": f"{channel.sales_channel.name} ships for other channels"}

    def send_order(self, account: ThreePLAccount, order: Mapping[str, Any], key: str) -> str:
        channel = channel_of(account)
        hand_off = HandOff.objects.select_related("shipment__order").get(
            account=account, reference=order["reference"]
        )
        name = reference_of(account, hand_off.reference)
        placed = hand_off.shipment.order
        try:
            wanted = _order(account, channel, order)
            offers = _ask(channel, lambda connector, access: connector.outbound_offers(access, wanted))
            chosen, why = choose_offer(offers, placed.deliver_by, placed.service_level)
            if chosen is None:
                raise HttpFailure(Failure.REJECTED, f"Amazon cannot ship it: {why}.")
            final = replace(wanted, speed=chosen.speed)
            _ask(channel, lambda connector, access: connector.create_outbound(access, final))
        except HttpFailure as failure:
            if failure.kind is not Failure.REJECTED:
                raise
            # a refusal may mean that an earlier try arrived after all: then it holds the very units that are missing
            state = _read(channel, name)
            if state is None:
                raise
            if not _is_ours(state, hand_off):
                raise HttpFailure(Failure.REJECTED, f"Another system has an order {name} there.") from failure
            return name
        if chosen.fee is not None:
            hand_off.calls.filter(kind=ThreePLCall.Kind.ORDER).update(
                payload={"speed": chosen.speed, "cost": str(chosen.fee), "currency": chosen.currency}
            )
        fee = f", {plain(chosen.fee)} {chosen.currency}" if chosen.fee is not None else ""
        timeline.add(
            placed.pk, "shipment", f"{hand_off.reference} goes {chosen.speed}: {why}{fee}"
            + (", in a plain box without Amazon's drivers" if final.neutral else ""),
            actor=_actor(account),
        )  # fmt: skip
        return final.reference

    def find_orders(self, account: ThreePLAccount, reference: str) -> list[dict[str, Any]]:
        channel = channel_of(account)
        hand_off = HandOff.objects.get(account=account, reference=reference)
        state = _read(channel, reference_of(account, reference))
        if state is None or not _is_ours(state, hand_off):
            return []
        found: dict[str, Any] = {"order_id": state.reference, "status": state.told, "cancel_keys": []}
        if hand_off.external_id:
            take(account, hand_off, state)
        if state.stage == "cancelled":
            found["cancel_keys"] = list(
                hand_off.calls.filter(kind=ThreePLCall.Kind.CANCEL).values_list("key", flat=True)
            )
        elif state.stage in ("done", "failed"):
            found["too_late"] = f"Amazon says {state.told}."
        return [found]

    def cancel(self, account: ThreePLAccount, external_id: str, body: Mapping[str, Any], key: str) -> None:
        """Ask, then read whether they did: a cancellation that was only asked for is not one."""
        channel = channel_of(account)
        refused: HttpFailure | None = None
        try:
            _ask(channel, lambda connector, access: connector.cancel_outbound(access, external_id))
        except HttpFailure as failure:
            if failure.kind is not Failure.REJECTED:
                raise
            refused = failure
        state = _read(channel, external_id)
        hand_off = HandOff.objects.get(account=account, external_id=external_id)
        if state is not None:
            take(account, hand_off, state)
            if state.stage == "cancelled":
                return
        if refused is not None:
            raise refused
        raise HttpFailure(Failure.TIMEOUT_AFTER_SEND, "Amazon has not confirmed the cancellation yet.")

    def recount(self, account: ThreePLAccount, body: Mapping[str, Any], key: str) -> None:
        raise HttpFailure(Failure.REJECTED, "Amazon counts its warehouses by itself.")


def _actor(partner: ThreePLAccount) -> Actor:
    return task_actor(f"mcf {partner.code}")


def _ask(account: ChannelAccount, make: Make[T]) -> T:
    """One operation of the port, its failure in the words that hand-offs understand."""
    try:
        return do(account.pk, make)
    except ChannelError as error:
        raise HttpFailure(_KINDS[error.kind], error.message, retry_after=error.retry_after) from error


def _read(account: ChannelAccount, reference: str) -> OutboundState | None:
    return _ask(account, asking.outbound(reference))


# --- what Amazon says becomes messages ---------------------------------------------------------------


def news(
    state: OutboundState,
    reference: str,
    packs: Mapping[str, int],
    at: dt.datetime,
    fee: Mapping[str, str] | None = None,
) -> list[tuple[str, str, dict[str, Any]]]:
    """(delivery id, topic, body) of everything a state says, in the messages of 3PLs, oldest first (pure).

    The same state says the same under the same delivery ids. `packs`: units per piece of each of their SKUs. `fee`
    (cost, currency) is what they offered to ship it for: it stands on the first parcel.
    """
    head = {"reference": reference, "order_id": state.reference}
    found: list[tuple[str, str, dict[str, Any]]] = []
    if state.stage != "failed" or state.shipments:
        found.append((f"{state.reference}:accepted", "order.status", {**head, "status": "accepted"}))
    units = {item.line: packs.get(item.external_sku, 1) for item in state.items}
    for shipment in state.shipments:
        left = shipment.left_at
        if left is None:
            continue
        unknown = any(not box.tracking_number for box in shipment.boxes)
        if unknown and left > at - TRACKING_WAIT:
            continue  # the number follows: a channel is told once, and with it
        parcels: list[dict[str, Any]] = [
            {
                "carrier": box.carrier,
                "tracking": box.tracking_number,
                "lines": [
                    {"line": int(line), "quantity": count * units.get(line, 1)}
                    for line, count in box.items.items()
                ],
            }
            for box in shipment.boxes
        ]
        if fee and parcels and shipment is state.shipments[0]:
            parcels[0] |= fee
        body = {
            "reference": reference,
            "shipment_id": shipment.external_id,
            "shipped_at": min(left, at).isoformat(),
            "parcels": parcels,
        }
        found.append((f"{state.reference}:{shipment.external_id}", "shipment.created", body))
    if state.stage == "cancelled":
        found.append((f"{state.reference}:cancelled", "order.status", {**head, "status": "cancelled"}))
    elif state.stage == "failed":
        body = {**head, "status": "refused", "reason": f"Amazon says {state.told}"}
        found.append((f"{state.reference}:refused", "order.status", body))
    return found


def take(partner: ThreePLAccount, hand_off: HandOff, state: OutboundState) -> int:
    """Store and book what a state says that is new; returns how many messages were new."""
    codes = {item.external_sku for item in state.items}
    packs = dict(
        Listing.objects.filter(
            account__locations__warehouse=partner.warehouse_id,
            fulfilment=Listing.Fulfilment.CHANNEL,
            external_sku__in=codes,
        ).values_list("external_sku", "pack_size")
    )
    told = hand_off.calls.filter(kind=ThreePLCall.Kind.ORDER).values_list("payload", flat=True).first() or {}
    fee = {name: told[name] for name in ("cost", "currency")} if told.get("cost") else None
    fresh = 0
    for delivery, topic, body in news(state, hand_off.reference, packs, now(), fee):
        fresh += inbox.accept(partner, delivery, topic, body)
    if fresh:
        inbox.drain(partner.pk)
    return fresh


def read(account: ChannelAccount, references: Iterable[str]) -> int:
    """Read the named orders and book their news; those that are not ours are passed over. Raises `ChannelError`."""
    partner = partner_of(account)
    if partner is None:
        return 0
    wanted = set(references)
    found = HandOff.objects.filter(account=partner, external_id__in=wanted).order_by("pk")
    done = 0
    for hand_off in found:
        state = do(account.pk, asking.outbound(hand_off.external_id))
        if state is not None:
            take(partner, hand_off, state)
            done += 1
    return done


def poll(account_id: int) -> int:
    """Find out what happened to open hand-offs, whether a notification came or not; returns how many were read.

    Raises `ChannelError`; what was read before it is booked.
    """
    account = ChannelAccount.objects.select_related("sales_channel").get(pk=account_id)
    partner = partner_of(account)
    if partner is None:
        return 0
    waiting = dict(
        HandOff.objects.filter(account=partner, state__in=OPEN)
        .exclude(external_id="")
        .values_list("external_id", "reference")
    )
    if not waiting:
        return 0
    at, cursor = now(), ""
    changed: dict[str, dt.datetime | None] = {}
    for _ in range(MAX_PAGES):
        page = do(account.pk, asking.changed_outbound(at - LOOK_BACK, cursor))
        changed.update(page.changed)
        cursor = page.cursor
        if not cursor:
            break
    heard: dict[str, dt.datetime] = dict(
        ThreePLMessage.objects.filter(account=partner, reference__in=list(waiting.values()))
        .values_list("reference")
        .annotate(last=Max("received_at"))
    )
    due = []
    for number, reference in waiting.items():
        last, told = heard.get(reference), changed.get(number)
        if number in changed:
            fresh = last is None or told is None or told > last - SKEW
        else:
            fresh = last is None or last < at - LOOK_BACK
        if fresh:
            due.append((last or dt.datetime.min.replace(tzinfo=dt.UTC), number))
    return read(account, [number for _, number in sorted(due)[:READS]]) if due else 0


def set_aside(pool: Warehouse) -> tuple[dict[int, int], set[int]]:
    """(units per SKU that the pool's operator holds back for our hand-offs, SKUs that are being handed over).

    Amazon's fulfillable figure leaves the first out although they are on its shelves until we book their shipment. The
    second may or may not be left out of it already.
    """
    held: dict[int, int] = {}
    unsure: set[int] = set()
    rows = HandOffLine.objects.filter(
        hand_off__account__warehouse=pool, hand_off__account__kind=KIND, hand_off__state__in=OPEN
    )
    for line in rows.select_related("hand_off"):
        if line.hand_off.state in (State.SENT, State.IN_DOUBT):
            unsure.add(line.sku_id)
        held[line.sku_id] = held.get(line.sku_id, 0) + line.open
    return held, unsure


transports.register(KIND.value, Transport())
