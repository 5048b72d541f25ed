"""The one port to every carrier: what is asked, what may come back, and which connector serves an account.

Weights are whole grams, lengths whole millimetres, money Decimal with a currency. A label purchase has
three outcomes, not two: `Bought`, `Rejected`, `Unknown`. Only a definite refusal is `Rejected`; a
timeout, a broken connection, a 5xx or an answer that cannot be read is `Unknown` and is looked up with
`resolve`, never sent again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from importlib import import_module
from typing import Any, Protocol

from oms.core.errors import UserError


class Capability(StrEnum):
    """What a connector can do; screens offer only what is listed."""

    QUOTE = "quote"
    BUY = "buy"
    RESOLVE = "resolve"
    VOID = "void"
    TRACK = "track"
    MANIFEST = "manifest"
    VALIDATE_ADDRESS = "validate_address"
    RETURN_LABEL = "return_label"
    #: the carrier answers a repeated purchase with the same key by the same label
    IDEMPOTENT_BUY = "idempotent_buy"


class ProblemKind(StrEnum):
    AUTH = "auth"
    RATE_LIMITED = "rate_limited"
    INVALID_REQUEST = "invalid_request"
    NOT_SERVICED = "not_serviced"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    BAD_RESPONSE = "bad_response"
    DEADLINE = "deadline"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a carrier did not do it: a sentence for people, a kind for decisions."""

    kind: ProblemKind
    message: str
    code: str = ""
    service: str = ""
    retry_after: float | None = None  # seconds
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class AddressSpec:
    """A postal address. `country` is ISO 3166 alpha-2, `region` the state or province code."""

    name: str = ""
    company: str = ""
    street1: str = ""
    street2: str = ""
    street3: str = ""
    city: str = ""
    region: str = ""
    postal_code: str = ""
    country: str = "US"
    phone: str = ""
    email: str = ""
    residential: bool = True

    def lines(self) -> list[str]:
        """The address as printed, without empty lines; city, region and postal code on one."""
        place = " ".join(part for part in (self.city, self.region, self.postal_code) if part)
        return [
            line
            for line in (self.name, self.company, self.street1, self.street2, self.street3, place)
            if line
        ]


@dataclass(frozen=True, slots=True)
class ParcelSpec:
    """One box, outer dimensions."""

    weight_g: int
    length_mm: int
    width_mm: int
    height_mm: int

    @property
    def sides(self) -> tuple[int, int, int]:
        """Millimetres, longest first."""
        longest, middle, shortest = sorted((self.length_mm, self.width_mm, self.height_mm), reverse=True)
        return longest, middle, shortest

    @property
    def length_plus_girth_mm(self) -> int:
        """Longest side plus twice the two others."""
        longest, middle, shortest = self.sides
        return longest + 2 * (middle + shortest)


@dataclass(frozen=True, slots=True)
class CustomsItem:
    """One line of a customs declaration."""

    sku: str
    description: str
    quantity: int
    unit_value: Decimal
    currency: str
    weight_g: int
    hs_code: str = ""
    origin_country: str = ""


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """Ask for prices. An empty `services` asks for all of them."""

    origin: AddressSpec
    destination: AddressSpec
    parcels: tuple[ParcelSpec, ...]
    ship_date: date
    #: warehouse code: selects its own rate card before the general one
    origin_group: str = ""
    services: tuple[str, ...] = ()
    declared_value: Decimal | None = None
    currency: str = "USD"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Charge:
    """One component of a price."""

    code: str
    name: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """A price for all parcels of a request. `transit_days` None means unknown, never fastest."""

    service: str
    service_name: str
    amount: Decimal
    currency: str
    transit_days: int | None = None
    arrives_on: date | None = None
    charges: tuple[Charge, ...] = ()
    zone: str = ""
    is_estimate: bool = False
    #: the carrier's own id of this offer, where it has one
    rate_ref: str = ""


@dataclass(frozen=True, slots=True)
class QuoteResult:
    """Rates and, for each service without one, why."""

    rates: tuple[Rate, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class BuyRequest:
    """Ask for the label of one parcel. `reference` (at most 30 characters) is printed where people see it.

    `declared_value` is of the parcel's goods, in `currency`.
    """

    service: str
    origin: AddressSpec
    destination: AddressSpec
    parcel: ParcelSpec
    reference: str
    ship_date: date
    origin_group: str = ""
    parcel_number: int = 1
    parcel_count: int = 1
    order_number: str = ""
    declared_value: Decimal | None = None
    currency: str = "USD"
    #: what is in this parcel, where it crosses a customs border; `declared_value` is their sum
    customs: tuple[CustomsItem, ...] = ()
    incoterm: str = ""
    #: eori, ioss and tax_id of the sender, those that apply
    customs_numbers: Mapping[str, str] = field(default_factory=dict)
    is_return: bool = False
    rate_ref: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bought:
    """The label exists and is paid. `documents` maps pdf, zpl or png to the file's bytes."""

    tracking_number: str
    carrier_ref: str
    cost: Decimal
    currency: str
    documents: Mapping[str, bytes]
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A definite no; nothing was bought."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether the label was bought."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class NotFoundAtCarrier:
    """The carrier was asked and does not know the purchase."""

    message: str = "the carrier does not know this purchase"


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The carrier has no way to be asked; a person decides."""

    message: str = "this carrier cannot be asked"


BuyOutcome = Bought | Rejected | Unknown
ResolveOutcome = Bought | NotFoundAtCarrier | Unknown | Unsupported


@dataclass(frozen=True, slots=True)
class TrackScan:
    """One scan of a parcel; `at` is UTC."""

    status: str
    at: datetime
    code: str = ""
    text: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class TrackResult:
    tracking_number: str
    scans: tuple[TrackScan, ...] = ()
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class ManifestResult:
    """`document` is the carrier's own form, where it gives one."""

    carrier_ref: str = ""
    document: bytes | None = None
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class AddressCheck:
    """`verdict` is verified, corrected, undeliverable or unknown; `proposed` is set when corrected."""

    verdict: str
    reason: str = ""
    proposed: AddressSpec | None = None


def unsupported(what: str) -> Problem:
    """The problem told when a carrier cannot do something at all."""
    return Problem(ProblemKind.UNSUPPORTED, f"This carrier does not offer {what}.", code="unsupported")


class CarrierConnector:
    """What every connector offers; a connector overrides what its carrier can do and lists it.

    No method raises for a failure of the carrier: failures are values.
    """

    capabilities: frozenset[Capability] = frozenset()

    def quote(self, request: QuoteRequest) -> QuoteResult:
        """Prices for all parcels together, in the account's currency."""
        return QuoteResult(problems=(unsupported("rates"),))

    def buy(self, request: BuyRequest, *, key: str) -> BuyOutcome:
        """Buy one label. `key` is the same for every repetition of this purchase."""
        return Rejected(unsupported("labels"))

    def resolve(self, *, key: str, reference: str) -> ResolveOutcome:
        """Find out what became of a purchase whose answer was lost."""
        return Unsupported()

    def void(self, *, tracking_number: str, carrier_ref: str) -> Problem | None:
        """Give a label back; None means it is void."""
        return unsupported("voiding of labels")

    def track(self, numbers: Sequence[str]) -> list[TrackResult]:
        """Scans per tracking number; one failing number never loses the others."""
        return [TrackResult(number, problem=unsupported("tracking")) for number in numbers]

    def manifest(self, tracking_numbers: Sequence[str], *, day: date) -> ManifestResult:
        """Close the day's parcels with the carrier."""
        return ManifestResult(problem=unsupported("manifests"))

    def validate_address(self, address: AddressSpec) -> AddressCheck:
        return AddressCheck("unknown", "This carrier does not check addresses.")

    def return_label(self, request: BuyRequest, *, key: str) -> BuyOutcome:
        """Buy a label from the customer back to us."""
        return Rejected(unsupported("return labels"))


class Account(Protocol):
    """What a connector needs of a carrier account; the stored account has these fields."""

    code: str
    connector: str
    credentials: Any
    config: Any
    currency: str
    test_mode: bool


Factory = Callable[[Any], CarrierConnector]

#: connector name → "module:function" that builds it from an account; imported at first use
CONNECTORS: dict[str, str] = {
    "table_rate": "fulfillment.carriers.table_rate.connector:connect",
}
#: connectors that answer from our own tables: asked in line and by routing, which never waits for a call
IN_HOUSE = frozenset({"table_rate"})
#: what people call where labels come from; the last two are never asked, for others buy the labels
NAMES = {"table_rate": "Own price list", "elsewhere": "Bought by hand", "threepl": "3PL"}


def connector_for(account: Account) -> CarrierConnector:
    """The connector that serves a carrier account. Raises UserError for an unknown connector name."""
    target = CONNECTORS.get(account.connector)
    if target is None:
        known = ", ".join(sorted(CONNECTORS))
        raise UserError(
            f"connector: {account.connector!r} is not a carrier connector; choose one of {known}.",
            field="connector",
        )
    module, _, function = target.partition(":")
    factory: Factory = getattr(import_module(module), function)
    return factory(account)
