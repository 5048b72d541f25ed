"""The port every sales channel is reached through: operations, their data, and what a channel can do.

An operation is a generator: it yields requests and receives answers, so that one piece of code serves the
tasks (blocking) and the stock pusher (asyncio), and never opens a socket itself. `channels.session` drives it
through the one door of `oms.core.http`, with token renewal.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from threading import RLock
from typing import Any, ClassVar, TypeVar

from oms.core.http import HttpAnswer, HttpRequest
from oms.orders.drafts import OrderDraft

T = TypeVar("T")
Op = Generator[HttpRequest, HttpAnswer, T]


#: what reading an order that is not as documented may raise: one such order never stops the others
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


class Retry(StrEnum):
    """What may be done after a failure."""

    AUTH = "auth"  # renew the token once, then stop and tell a person
    THROTTLED = "throttled"  # wait as told
    TRANSIENT = "transient"  # nothing happened there, try again
    REJECTED = "rejected"  # the same request will be refused again
    STALE = "stale"  # the channel's figure moved: read, compute again, send with a new key
    IN_DOUBT = "in_doubt"  # it may have happened: look it up before anything else


class ChannelError(Exception):
    """A failed operation with its retry class; `retry_after` in seconds where the channel told it."""

    def __init__(
        self, kind: Retry, message: str, *, code: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message[:400]
        self.code = code
        self.retry_after = retry_after


class BadSignature(Exception):
    """The notification is not from the channel, or not for this account."""


@dataclass(frozen=True, slots=True)
class Access:
    """What an operation needs to know of its account; a copy, so that no row is held while it talks."""

    account_id: int
    connector: str
    name: str
    config: Mapping[str, Any]
    credentials: Mapping[str, Any]
    tokens: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Name in the call journal, the token bucket and the breaker."""
        return f"channel:{self.account_id}"


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One input of the connect form."""

    name: str
    label: str
    secret: bool = False
    required: bool = True
    help: str = ""
    default: str = ""
    #: (value, words) to choose from; empty = free text
    choices: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a channel can do, as data: screens and services ask here, never for the channel's name."""

    quantity_batch: int = 1
    quantity_connections: int = 2
    #: pushes per second the account may start; 0 = only what the channel's own answers say
    pushes_per_second: float = 0.0
    #: changes of one listing's quantity that the channel takes in 24 hours (eBay: 250); 0 = no such limit
    revisions_per_day: int = 0
    #: from so many waiting listings on, one bulk file is cheaper than single calls; 0 = no bulk way
    bulk_from: int = 0
    #: quantities lie in a file until the channel fetches it, and a newer file takes the place of one not yet fetched;
    #: whether an account works so, `Connector.bulk_from` says
    bulk_fetched: bool = False
    per_location: bool = False
    compare_and_set: bool = False
    webhooks: bool = False
    queue: bool = False
    #: orders read per call when notifications are followed up
    order_batch: int = 1
    #: above so many waiting orders their full notification is taken instead of reading each; 0 = never
    body_above: int = 0
    #: above so many waiting orders they are read by one list call instead of one call each; 0 = never
    list_above: int = 0
    poll_seconds: int = 300
    #: a pull begins so many seconds before the last one ended
    overlap_seconds: int = 3600
    #: an order may be missing from the channel's list for so long after it was placed: units seen sold count as sold
    #: for that long. Where no document names a delay (Shopify, eBay, TikTok Shop, WooCommerce, custom shops), the list
    #: and the figure come from the same place, and this allows for two clocks and one page
    visible_after_seconds: int = 10
    acknowledge: bool = False
    cancel: bool = False
    refund: bool = False
    returns: bool = False
    fulfilled_by_channel: bool = False
    #: its own warehouse ships orders of other channels too (Amazon: Multi-Channel Fulfillment)
    ships_for_others: bool = False
    #: parcels must not carry another marketplace's brand or come with its drivers
    neutral_parcels: bool = False
    #: one call confirms goods of one location only
    ship_per_location: bool = False
    #: our carrier code (upper case) → the channel's own
    carriers: Mapping[str, str] = field(default_factory=dict)
    #: effects that may be sent again once a look-up has shown nothing: the channel or a first read guards them
    repeatable: frozenset[str] = frozenset()
    #: effects that carry no reference of ours there: what the channel shows before they are sent is kept (`mark`), so
    #: that they can be told from earlier ones of the same size
    marked: frozenset[str] = frozenset()
    #: carriers outside the list may be named in words
    other_carriers: bool = False
    #: a person maps its fields: it has a mapping screen, and is tested from there
    mapped: bool = False
    #: it is a folder of files: orders are taken from it, not asked for
    files: bool = False

    def carrier(self, code: str, name: str = "") -> str | None:
        """The channel's code for one of our carriers; None when it knows neither the code nor other carriers."""
        found = self.carriers.get(code.upper()) or self.carriers.get(name.upper())
        return found or ((name or code) if self.other_carriers and (name or code) else None)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A new access token. Times are aware UTC; `credentials` holds what the channel replaced, if anything."""

    values: Mapping[str, Any]
    expires_at: dt.datetime | None
    credentials: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PushItem:
    """One listing's quantity to tell, in the listing's own units. `expected` = what the channel should show now."""

    listing_id: int
    external_id: str
    external_sku: str
    location_id: str
    quantity: int
    key: str
    expected: int | None = None
    fulfilled_by_channel: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PushResult:
    """The answer for one listing: `failure` None = accepted. `handle` names a bulk file still being worked on."""

    listing_id: int
    failure: Retry | None = None
    message: str = ""
    retry_after: float | None = None
    handle: str = ""


@dataclass(frozen=True, slots=True)
class ListingRef:
    """How a connector finds a listing on its channel."""

    listing_id: int
    external_id: str
    external_sku: str
    location_id: str


@dataclass(frozen=True, slots=True)
class RemoteListing:
    """An offer as the channel shows it. `quantity` None = the channel does not count it."""

    external_id: str
    external_sku: str
    title: str = ""
    location_id: str = ""
    location_name: str = ""
    variant_id: str = ""
    quantity: int | None = None
    fulfilled_by_channel: bool = False
    active: bool = True
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListingPage:
    listings: tuple[RemoteListing, ...]
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class OrderPage:
    """Orders and where to go on. `cursor` empty = no more; `resume` is kept for the next pull."""

    drafts: tuple[OrderDraft, ...]
    cursor: str = ""
    resume: str = ""
    refused: int = 0


@dataclass(frozen=True, slots=True)
class ShipItem:
    """Units of one order line in a parcel, by the channel's own line id. `sku` as the channel calls it."""

    line_external_id: str
    quantity: int
    sku: str = ""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One parcel to confirm. `reference` is ours, a positive whole number that never changes for the parcel."""

    order_external_id: str
    reference: str
    carrier: str
    carrier_name: str
    service: str
    tracking_number: str
    tracking_url: str
    shipped_at: dt.datetime
    items: tuple[ShipItem, ...]
    location_id: str = ""
    notify_buyer: bool = True
    #: the order as the channel shows it to people; empty where it is the id
    order_number: str = ""


@dataclass(frozen=True, slots=True)
class RefundItem:
    """Money for units of one order line, by the channel's own line id; 0 units for goodwill."""

    line_external_id: str
    quantity: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """Money to give back, in the order's currency; restocking is never asked for, an inspector decides that.

    `amount` = items + shipping − fee. `external_id` = what the channel answered when it was sent, `mark` = what it
    showed before.
    """

    order_external_id: str
    reference: str
    key: str
    amount: Decimal
    shipping: Decimal
    currency: str
    items: tuple[RefundItem, ...]
    fee: Decimal = Decimal(0)
    reason: str = ""
    external_id: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Cancel on the channel. Empty `items` = the whole order. `mark` = what the channel showed before it was sent."""

    order_external_id: str
    reference: str
    reason: str
    items: tuple[ShipItem, ...] = ()
    external_id: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class RemoteReturn:
    """A return the buyer or the channel opened."""

    external_id: str
    order_external_id: str
    state: str  # requested, approved, declined, closed; unreadable: `note` says why
    lines: tuple[tuple[str, int, str], ...]  # (line external id, units, reason words)
    note: str = ""


def readable(
    row: Any, make: Callable[[Any], Iterable[RemoteReturn | None]], number: str = ""
) -> list[RemoteReturn]:
    """The returns that a row tells of. One that is not as documented is told as such and stops no other.

    `number`: the field that names it.
    """
    try:
        return [found for found in make(row) if found is not None]
    except UNREADABLE as error:
        name = str(row.get(number) or "") if isinstance(row, Mapping) else ""
        return [RemoteReturn(name[:80], "", "unreadable", (), f"{type(error).__name__}: {error}"[:400])]


@dataclass(frozen=True, slots=True)
class Notification:
    """A verified message. `order_id` set = that order changed; the rest says what else it tells."""

    delivery_id: str
    topic: str
    body: Mapping[str, Any]
    order_id: str = ""
    kind: str = "order"  # order, quantity, fba, outbound, feed, return, uninstalled, other
    event_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class PoolLevel:
    """The operator's own count of one of its SKUs (FBA): units it can sell, holds back, and has on the way."""

    external_sku: str
    sellable: int
    reserved: int
    unsellable: int
    inbound: int
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class PoolPage:
    levels: tuple[PoolLevel, ...]
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class OutboundItem:
    """Units of one line of an outbound order, by our line name and the channel's SKU."""

    line: str
    external_sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class OutboundOrder:
    """An order of another channel that the channel's warehouse is asked to ship.

    `reference` is ours, at most 40 characters, and the key: a second order with it is refused there.
    `display_number` and `comment` are what the recipient reads. `neutral`: no brand of theirs on the parcel and
    none of their own drivers. `speed` empty = not chosen yet.
    """

    reference: str
    display_number: str
    placed_at: dt.datetime
    address: Mapping[str, str]
    items: tuple[OutboundItem, ...]
    speed: str = ""
    neutral: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class OutboundOffer:
    """What the warehouse offers for an outbound order at one speed. `fee` None = not told; `reasons` why it cannot."""

    speed: str
    fulfillable: bool
    arrives_by: dt.datetime | None = None
    fee: Decimal | None = None
    currency: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutboundBox:
    """One parcel as it left: our line name → units."""

    carrier: str
    tracking_number: str
    items: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OutboundShipment:
    """Parcels that left together. `left_at` None = they are still being packed."""

    external_id: str
    left_at: dt.datetime | None
    boxes: tuple[OutboundBox, ...]


@dataclass(frozen=True, slots=True)
class OutboundState:
    """An outbound order as the warehouse shows it.

    `stage`: taken, working, done, cancelled or failed (they cannot ship it or what is left of it); `told` is their
    own word. `items` are what was asked for: line name, SKU, units.
    """

    reference: str
    display_number: str
    stage: str
    told: str
    items: tuple[OutboundItem, ...]
    shipments: tuple[OutboundShipment, ...]
    changed_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class OutboundPage:
    """Reference → time of its last change."""

    changed: Mapping[str, dt.datetime | None]
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A notification the channel promised to send."""

    external_id: str
    topic: str
    address: str


@dataclass(frozen=True, slots=True)
class ShopFacts:
    """What a connection test shows: whose account it is and where it counts stock."""

    name: str
    currency: str = ""
    locations: tuple[tuple[str, str], ...] = ()


class Connector:
    """One channel. Stateless: everything it needs is in the arguments.

    Operations raise `ChannelError`. An operation that a channel lacks is not called: its capability says so.
    """

    key: ClassVar[str]
    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    config_fields: ClassVar[tuple[FieldSpec, ...]] = ()
    credential_fields: ClassVar[tuple[FieldSpec, ...]] = ()

    def check_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration as it is stored. Raises `UserError` naming the field."""
        return dict(config)

    def notifies(self, config: Mapping[str, Any]) -> bool:
        """Does this account send notifications, so that their absence means something?"""
        return self.capabilities.webhooks or self.capabilities.queue

    def bulk_from(self, config: Mapping[str, Any]) -> int:
        """From so many waiting listings on this account takes a bulk file; 0 = never."""
        return self.capabilities.bulk_from

    def place_id(self, text: str) -> str:
        """A location id as listings carry it, whatever form it was given in."""
        return text.strip()

    # --- token ---------------------------------------------------------------------------------------
    def token_lifetime(self, access: Access) -> bool:
        """True when access tokens expire and are renewed by us."""
        return False

    def refresh_token(self, access: Access) -> Op[Tokens]:
        raise NotImplementedError

    def probe(self, access: Access) -> Op[ShopFacts]:
        """A harmless call that proves credentials and configuration."""
        raise NotImplementedError

    # --- orders --------------------------------------------------------------------------------------
    def list_orders(self, access: Access, since: str, cursor: str) -> Op[OrderPage]:
        """Orders changed since `since` (the channel's own text, empty = the default window), oldest first."""
        raise NotImplementedError

    def get_orders(self, access: Access, external_ids: Sequence[str]) -> Op[list[OrderDraft]]:
        """The named orders as they are now; those the channel does not know are left out."""
        raise NotImplementedError

    def map_notification(self, body: Mapping[str, Any]) -> OrderDraft | None:
        """The order inside a notification, where it is complete."""
        return None

    def acknowledge(self, access: Access, external_id: str) -> Op[None]:
        raise NotImplementedError

    def cancel(self, access: Access, order: CancelOrder) -> Op[str]:
        raise NotImplementedError

    def cancelled(self, access: Access, order: CancelOrder) -> Op[bool]:
        """Read back: does the channel show the order (or the lines) as cancelled?"""
        raise NotImplementedError

    # --- stock ---------------------------------------------------------------------------------------
    def push_quantities(self, access: Access, items: Sequence[PushItem]) -> Op[list[PushResult]]:
        """Absolute quantities; one result per item, whatever happened to the others."""
        raise NotImplementedError

    def push_bulk(self, access: Access, items: Sequence[PushItem]) -> Op[str]:
        """Hand in many quantities as one file; the handle by which its result is read later."""
        raise NotImplementedError

    def bulk_result(
        self, access: Access, handle: str, items: Sequence[PushItem]
    ) -> Op[list[PushResult] | None]:
        """Per-item results of a bulk file; None while the channel works on it."""
        raise NotImplementedError

    def read_quantities(self, access: Access, refs: Sequence[ListingRef]) -> Op[dict[int, int]]:
        """What the channel shows now, by listing id; unknown listings are left out."""
        raise NotImplementedError

    def list_listings(self, access: Access, cursor: str) -> Op[ListingPage]:
        raise NotImplementedError

    def pool_levels(self, access: Access, since: dt.datetime | None, cursor: str) -> Op[PoolPage]:
        """The channel's own warehouse (FBA): its figures, all or changed since."""
        raise NotImplementedError

    # --- orders of other channels, from the channel's warehouse ----------------------------------------
    def outbound_offers(self, access: Access, order: OutboundOrder) -> Op[list[OutboundOffer]]:
        """What each speed would cost and when it would arrive; asks only, slowest speed first."""
        raise NotImplementedError

    def create_outbound(self, access: Access, order: OutboundOrder) -> Op[None]:
        """Ask for the order to be shipped. REJECTED also when an order with this reference exists: look it up."""
        raise NotImplementedError

    def read_outbound(self, access: Access, reference: str) -> Op[OutboundState | None]:
        """The order as it stands there; None = they know no order under our reference."""
        raise NotImplementedError

    def cancel_outbound(self, access: Access, reference: str) -> Op[None]:
        """Ask them to stop. Only `read_outbound` tells whether they did."""
        raise NotImplementedError

    def changed_outbound(self, access: Access, since: dt.datetime, cursor: str) -> Op[OutboundPage]:
        """Outbound orders that changed since then."""
        raise NotImplementedError

    # --- effects -------------------------------------------------------------------------------------
    def confirm_shipment(self, access: Access, parcel: Confirmation) -> Op[str]:
        """Tell carrier and tracking once; returns the channel's id of the fulfilment, if it gives one."""
        raise NotImplementedError

    def read_shipment(self, access: Access, parcel: Confirmation) -> Op[str | None]:
        """Proof: the channel's id of the fulfilment with this parcel's tracking; None = it shows none."""
        raise NotImplementedError

    def mark(self, access: Access, request: RefundOrder | CancelOrder) -> Op[str]:
        """What the channel shows of such effects before this one is sent; for those in `capabilities.marked`."""
        raise NotImplementedError

    def refund(self, access: Access, refund: RefundOrder) -> Op[str]:
        raise NotImplementedError

    def find_refund(self, access: Access, refund: RefundOrder) -> Op[str | None]:
        """Look a refund up by our reference; None = the channel shows none."""
        raise NotImplementedError

    def list_returns(self, access: Access, since: dt.datetime) -> Op[list[RemoteReturn]]:
        raise NotImplementedError

    # --- notifications -------------------------------------------------------------------------------
    def answer_challenge(
        self, access: Access, query: Mapping[str, str], address: str
    ) -> Mapping[str, Any] | None:
        """What a channel wants to hear (as JSON) when it asks our hook by GET whether it is ours; None = nothing."""
        return None

    def fetch_push_key(self, access: Access, headers: Mapping[str, str]) -> Op[None] | None:
        """Fetches the public key that verifies a notification; None where it is at hand or a secret does it.

        Anybody can knock: what is asked for is bounded. Raises `BadSignature`.
        """
        return None

    def parse_push(self, access: Access, headers: Mapping[str, str], raw: bytes) -> list[Notification]:
        """Verify and read an HTTP notification (header names in lower case). Raises `BadSignature`."""
        raise BadSignature

    def kind_of(self, topic: str) -> str:
        """What a topic speaks of; see `Notification.kind`."""
        return "other"

    def told_quantity(self, body: Mapping[str, Any]) -> tuple[str, str, int] | None:
        """(listing's external id, location, quantity) of a quantity notification."""
        return None

    def poll_queue(self, access: Access, wait_seconds: int) -> Op[list[tuple[str, Notification]]]:
        """Messages of the channel's queue with the handle by which each is removed once it is stored."""
        raise NotImplementedError

    def forget_queue(self, access: Access, handles: Sequence[str]) -> Op[None]:
        raise NotImplementedError

    def ensure_subscriptions(self, access: Access, address: str) -> Op[list[Subscription]]:
        """Make sure the channel tells us what we need at `address`; returns what had to be created."""
        raise NotImplementedError


_registry: dict[str, Connector] = {}


def register(connector: Connector) -> Connector:
    _registry[connector.key] = connector
    return connector


def get_connector(key: str) -> Connector:
    """The connector of a key. KeyError names the known ones."""
    _load()
    if key not in _registry:
        raise KeyError(f"no connector '{key}'; known: {', '.join(sorted(_registry))}")
    return _registry[key]


def connectors() -> list[Connector]:
    _load()
    return sorted(_registry.values(), key=lambda connector: connector.name)


_loading = RLock()
_loaded = False


def _load() -> None:
    """Import every connector package beside this module once, whichever of them was imported before.

    Two threads at start would meet half-imported modules: the second one waits.
    """
    global _loaded
    if _loaded:
        return
    with _loading:
        for module in iter_modules([str(Path(__file__).parent)]):
            if module.ispkg:
                import_module(f"channels.connectors.{module.name}.client")
        _loaded = True
