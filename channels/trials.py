"""Trying a mapping out before it works: on a sample, by one page read live, and by one quantity written on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from channels.connectors.base import Access, ChannelError, Connector, ListingRef, Op, PushItem, Retry
from channels.connectors.custom import mapping as maps
from channels.connectors.custom.client import Custom
from channels.models import ChannelAccount
from channels.session import do
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.errors import UserError
from oms.orders.drafts import OrderDraft
from oms.orders.validation import money_gap, normalise

MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Tried:
    """One order of a sample or a live page as it would be taken, or the sentence why it would not.

    `gap` = what the shop's total has more than its parts, in the order's currency.
    """

    name: str
    draft: OrderDraft | None = None
    problem: str = ""
    gap: Decimal = Decimal(0)


def try_orders(mapping: Mapping[str, Any], answer: Any) -> list[Tried]:
    """The orders of an answer under a mapping (pure), at most 20. Raises `UserError` when it holds no list."""
    gaps = maps.missing(mapping)
    if gaps:
        raise UserError(f"The mapping still needs: {', '.join(gaps)}.")
    try:
        rows = maps.rows_of(answer, mapping.get("orders_list", ""), "Where the list stands")
    except maps.Unfit as error:
        raise UserError(f"{error}.", field="orders_list") from error
    return [_tried(mapping, row, place) for place, row in enumerate(rows[:MOST_SHOWN], 1)]


def _tried(mapping: Mapping[str, Any], row: Any, place: int) -> Tried:
    name = f"order {place}"
    try:
        name = maps.order_id(mapping, row) or name
        draft = maps.order_draft(mapping, row)
        if draft is None:
            return Tried(name, problem="Left out: its status means that it is none of ours.")
        draft = normalise(draft)
        return Tried(name, draft, gap=money_gap(draft))
    except UserError as error:
        return Tried(name, problem=error.message)
    except (ValueError, ArithmeticError) as error:
        return Tried(name, problem=f"{error}.")


def read_page(account: ChannelAccount) -> list[Tried]:
    """One page of orders, live; nothing is written or booked. Raises `UserError` with the shop's own words."""

    def ask(connector: Connector, access: Access) -> Op[tuple[list[dict[str, Any]], str]]:
        return cast(Custom, connector).page(access, "", "")

    try:
        rows, _ = do(account.pk, ask)
    except ChannelError as error:
        raise UserError(f"The shop was asked: {error.message}") from error
    mapping = account.config.get("mapping") or {}
    return [_tried(mapping, row, place) for place, row in enumerate(rows[:MOST_SHOWN], 1)]


def fetch(account: ChannelAccount, path: str) -> str:
    """What the shop answers at an address, as text. Raises `UserError`, also for an answer too long to map by."""

    def ask(connector: Connector, access: Access) -> Op[bytes]:
        return cast(Custom, connector).answer(access, path)

    try:
        raw = do(account.pk, ask)
    except ChannelError as error:
        raise UserError(f"{path}: {_advice(error)}") from error
    if len(raw) > maps.MAX_SAMPLE:
        raise UserError(
            f"{path}: the answer has {len(raw) // 1024} KB. Ask for fewer entries, for example with ?limit=10."
        )
    return raw.decode("utf-8", "replace")


def _advice(error: ChannelError) -> str:
    """What a person can do about a refused request, after the shop's own words."""
    ways = {
        "401": "Is the token right, and is it sent as the shop wants it? See Address and credentials.",
        "403": "The token may not read this. Give it the right in the shop.",
        "404": "Nothing is at this address. Compare it with the shop's description.",
    }
    if error.kind is Retry.AUTH and error.code not in ways:
        return f"{error.message} {ways['401']}"
    return f"{error.message} {ways.get(error.code, '')}".strip()


def find_one(account: ChannelAccount, mapping: Mapping[str, Any], orders: Any) -> dict[str, str]:
    """Where one order is read, tried the usual way: the list's address and the id. Empty when it is not there."""
    try:
        row = maps.rows_of(orders, mapping.get("orders_list", ""), "")[0]
        number = maps.order_id(mapping, row)
    except (maps.Unfit, IndexError, KeyError):
        return {}
    path = mapping["orders_path"].partition("?")[0].rstrip("/") + "/{order_id}"
    if not number:
        return {}
    try:
        answer = maps.parse_json(fetch(account, maps.fill_path(path, {"order_id": number})), "the answer")
    except (UserError, maps.Unfit):
        return {}
    if not isinstance(answer, dict):
        return {}
    roots = ["", *(name for name, inner in answer.items() if isinstance(inner, dict))]
    for root in roots:
        try:
            inner = maps.look(answer, maps.join("", root) if root else "")
            if isinstance(inner, dict) and maps.order_id(mapping, inner) == number:
                return {"order_path": path, **({"order_root": maps.join("", root)} if root else {})}
        except maps.Unfit:
            continue
    return {}


def push_one(account: ChannelAccount, sku: str, quantity: int, *, actor: Actor) -> str:
    """Write one quantity and, where the mapping can, read it back. The sentence says what the shop shows.

    Raises `UserError` when the shop refuses it.
    """
    if not sku.strip():
        raise UserError("SKU: say whose quantity is written.", field="push_sku")
    code = sku.strip()[:120]
    item = PushItem(0, code, code, "", quantity, f"trial:{account.pk}")
    ref = ListingRef(0, code, code, "")

    def results(connector: Connector, access: Access) -> Op[Sequence[Any]]:
        return connector.push_quantities(access, [item])

    def shown(connector: Connector, access: Access) -> Op[dict[int, int]]:
        return connector.read_quantities(access, [ref])

    try:
        told = do(account.pk, results)[0]
        if told.failure is not None:
            raise UserError(f"The shop refuses the quantity: {told.message}")
        record(actor, "channel.trial_push", account, after={"sku": code, "quantity": quantity})
        read = do(account.pk, shown).get(0)
    except ChannelError as error:
        raise UserError(f"The shop was asked: {error.message}") from error
    if read is None:
        return f"The shop took {quantity} for {code}; no address to read it back is mapped."
    if read != quantity:
        raise UserError(f"The shop took {quantity} for {code}, but shows {read}.")
    return f"The shop took {quantity} for {code} and shows it."
