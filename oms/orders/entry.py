"""Orders that no channel sent: typed in by a person or posted by an integrator. One way in for both."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from inventory.locking import lock_levels, lock_reservations, stock_service
from inventory.models import KitComponent, Reservation, Sku
from inventory.reservations import release
from inventory.selectors import resolve_codes
from oms.core.access import can
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import UserError
from oms.core.money import check_coins, plain
from oms.orders import services
from oms.orders.drafts import ZERO, ContactDraft, LineDraft, OrderDraft
from oms.orders.models import Order, SalesChannel

#: channels whose orders are made here; those of a marketplace come from the marketplace
OPEN_KINDS = (SalesChannel.Kind.MANUAL, SalesChannel.Kind.CUSTOM)


#: of a time that somebody gives: before it lie typing errors and days that a zone cannot turn
EARLIEST = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class EntryLine:
    """One line by SKU code or alias; money in the order's currency, tax and discount for the whole line."""

    sku: str
    quantity: int
    unit_price: Decimal
    discount: Decimal = ZERO
    tax: Decimal = ZERO


def channels_for_entry(principal: object) -> list[SalesChannel]:
    """Channels on which the principal may enter orders by hand."""
    found = SalesChannel.objects.filter(kind__in=OPEN_KINDS, is_active=True)
    return [channel for channel in found if can(principal, "orders.edit", channel_code=channel.code)]


def enter(
    *,
    channel: SalesChannel,
    lines: Sequence[EntryLine],
    contact: ContactDraft,
    actor: Actor,
    source: str,
    external_id: str = "",
    currency: str = "",
    shipping: Decimal = ZERO,
    discount: Decimal = ZERO,
    kind: str = "sale",
    service_level: str = "",
    ship_by: dt.datetime | None = None,
    placed_at: dt.datetime | None = None,
    tags: Sequence[str] = (),
    note: str = "",
    held: Sequence[int] = (),
) -> Order:
    """Store one order and reserve its stock. `external_id` empty makes one; the same one twice is refused.

    `held` are reservations that a checkout made for it: their units become the order's, and nobody can take them
    in between.

    Raises `UserError` naming the field (unknown SKU, closed channel, amounts) and `Conflict` for a known id.
    """
    if channel.kind not in OPEN_KINDS:
        raise UserError(
            f"channel: orders of {channel.name} come from the channel itself; choose a manual or custom channel.",
            field="channel",
        )
    if not channel.is_active:
        raise UserError(f"channel: {channel.name} is switched off.", field="channel")
    if not lines:
        raise UserError("lines: add at least one line.", field="lines")
    money = currency or channel.currency
    check_coins("shipping", shipping, money)
    check_coins("discount", discount, money)
    found = resolve_codes([line.sku for line in lines])
    drafts = []
    for number, line in enumerate(lines, 1):
        at, sku = f"lines.{number - 1}", found.get(line.sku)
        if sku is None:
            raise UserError(
                f"lines[{number}].sku: there is no SKU or alias '{line.sku[:60]}'.", field=f"{at}.sku"
            )
        if line.unit_price < 0 or line.discount < 0 or line.tax < 0:
            raise UserError(
                f"lines[{number}]: prices, discounts and taxes cannot be negative.", field=f"{at}.unit_price"
            )
        check_coins(f"{at}.discount", line.discount, money)
        check_coins(f"{at}.tax", line.tax, money)
        # a unit of a large lot may cost less than a coin, the line may not
        check_coins(
            f"{at}.unit_price",
            line.unit_price * line.quantity,
            money,
            f"{line.quantity} × {plain(line.unit_price)} = ",
        )
        if line.discount > line.unit_price * line.quantity:
            raise UserError(
                f"lines[{number}].discount: {line.discount} is more than the line costs; lower it.",
                field=f"{at}.discount",
            )
        drafts.append(
            LineDraft(
                external_id=str(number),
                quantity=line.quantity,
                external_sku=sku.code,
                sku_id=sku.pk,
                title=sku.title,
                unit_price=line.unit_price,
                discount=line.discount,
                tax=line.tax,
            )
        )
    left = sum((line.unit_price * line.quantity - line.discount for line in lines), shipping)
    if discount > left:
        raise UserError(
            f"discount: {discount} is more than the {left} that lines and shipping cost; lower it.",
            field="discount",
        )
    moment = now()
    _check_time("placed_at", placed_at, latest=moment + dt.timedelta(hours=1))
    _check_time("ship_by", ship_by, latest=moment + dt.timedelta(days=3660))
    draft = OrderDraft(
        external_id=external_id or services.new_external_id(),
        external_number=external_id,
        placed_at=placed_at or moment,
        channel_updated_at=moment,
        currency=money,
        lines=tuple(drafts),
        kind=kind,  # type: ignore[arg-type]  # checked by validation, with a sentence
        ship_by=ship_by,
        service_level=service_level,
        contact=contact,
        shipping=shipping,
        discount=discount + sum((line.discount for line in lines), ZERO),
        tax=sum((line.tax for line in lines), ZERO),
        tags=tuple(tags),
    )
    order = _store(draft, channel, held, actor, source)
    if note:
        services.add_note(order.pk, note, actor=actor)
    return order


def _check_time(field: str, at: dt.datetime | None, *, latest: dt.datetime) -> None:
    """A mistyped year would make an order nobody ever ships, or a day that no calendar has."""
    if at is not None and not (EARLIEST <= at <= latest):
        raise UserError(
            f"{field}: {at.isoformat()} is not possible; use a time from {EARLIEST:%Y-%m-%d} to "
            f"{latest.isoformat(timespec='minutes')}.",
            field=field,
        )


@stock_service
def _store(draft: OrderDraft, channel: SalesChannel, held: Sequence[int], actor: Actor, source: str) -> Order:
    """The order, and with it what was held for it. Stock rows of both are locked first, in their one order."""
    if held:
        lock_reservations(held)
        skus = {line.sku_id for line in draft.lines if line.sku_id is not None}
        skus |= set(KitComponent.objects.filter(kit__in=skus).values_list("component_id", flat=True))
        places = channel.warehouses.values_list("warehouse_id", flat=True)
        holds = Reservation.objects.filter(pk__in=held).values_list("sku_id", "warehouse_id")
        lock_levels({*holds, *((sku, place) for sku in skus for place in places)})
        release(held, actor=actor, reason="order")
    return services.create_order(draft, channel=channel, actor=actor, source=source)


def find_sku(code: str) -> Sku:
    """The SKU behind a code or alias typed by a person. Raises `UserError`."""
    sku = resolve_codes([code]).get(code)
    if sku is None:
        raise UserError(f"sku: there is no SKU or alias '{code[:60]}'.", field="sku")
    return sku
