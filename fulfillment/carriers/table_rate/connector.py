"""The built-in carrier: prices from stored rate cards, labels drawn here. It never leaves the machine.

It serves own vans, rate cards agreed with a 3PL or carrier, and quotes while a live carrier is down.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from fulfillment.carriers.base import (
    Bought,
    BuyOutcome,
    BuyRequest,
    Capability,
    CarrierConnector,
    ManifestResult,
    NotFoundAtCarrier,
    Problem,
    ProblemKind,
    QuoteRequest,
    QuoteResult,
    Rate,
    Rejected,
    ResolveOutcome,
)
from fulfillment.carriers.table_rate.labels import LabelData, pdf_label, tracking_number, zpl_label
from fulfillment.carriers.table_rate.rating import (
    Break,
    Card,
    Surcharge,
    Tariff,
    check_conditions,
    quote,
    rate,
    service_from,
)
from fulfillment.carriers.table_rate.zones import ZoneChartRow
from fulfillment.customs.territory import crosses_border
from fulfillment.documents.commercial_invoice import INCOTERMS, customs_problems
from oms.core.errors import UserError

if TYPE_CHECKING:
    from fulfillment.models import CarrierAccount, RateCard
    from fulfillment.models import Surcharge as StoredSurcharge


class TableRateConnector(CarrierConnector):
    """The port over tariffs held in memory."""

    capabilities = frozenset(
        {
            Capability.QUOTE,
            Capability.BUY,
            Capability.RESOLVE,
            Capability.VOID,
            Capability.MANIFEST,
            Capability.RETURN_LABEL,
            Capability.IDEMPOTENT_BUY,
        }
    )

    def __init__(self, name: str, tariffs: Sequence[Tariff], chart: Sequence[ZoneChartRow] = ()) -> None:
        self.name = name
        self.tariffs = tuple(tariffs)
        self.chart = tuple(chart)

    def quote(self, request: QuoteRequest) -> QuoteResult:
        return quote(self.tariffs, request, self.chart)

    def buy(self, request: BuyRequest, *, key: str) -> BuyOutcome:
        """The label of one parcel; the same key gives the same number and bytes, and nothing is charged twice."""
        tariff = next((item for item in self.tariffs if item.service.code == request.service), None)
        if tariff is None:
            text = f"{self.name} has no service {request.service!r}."
            return Rejected(Problem(ProblemKind.INVALID_REQUEST, text, service=request.service))
        priced = rate(tariff, _single(request), self.chart)
        if not isinstance(priced, Rate):
            text = " ".join(problem.message for problem in priced)
            return Rejected(Problem(priced[0].kind, text, service=request.service))
        if problem := _undeclared(request):
            return Rejected(
                Problem(ProblemKind.INVALID_REQUEST, problem, code="customs", service=request.service)
            )
        label = LabelData(request, tracking_number(key), tariff.service.name, self.name)
        pdf, zpl = pdf_label(label), zpl_label(label)
        return Bought(
            tracking_number=label.tracking_number,
            carrier_ref=key,
            cost=priced.amount,
            currency=priced.currency,
            documents={"pdf": pdf.content, "zpl": zpl.content},
            warning=pdf.warning or zpl.warning,
        )

    def return_label(self, request: BuyRequest, *, key: str) -> BuyOutcome:
        """As `buy`; the request names the customer as origin and us as destination."""
        return self.buy(request, key=key)

    def resolve(self, *, key: str, reference: str) -> ResolveOutcome:
        """Nobody else keeps a copy: what was not stored was not bought, and cost nothing."""
        return NotFoundAtCarrier(f"{reference} was not stored; labels of {self.name} are made here")

    def void(self, *, tracking_number: str, carrier_ref: str) -> Problem | None:
        return None

    def manifest(self, tracking_numbers: Sequence[str], *, day: date) -> ManifestResult:
        """The printed manifest is the hand-over; there is no carrier to tell."""
        return ManifestResult()


def _undeclared(request: BuyRequest) -> str:
    """What the customs declaration of a parcel lacks, as every carrier checks it; empty inside one territory."""
    if request.is_return or not crosses_border(request.origin, request.destination):
        return ""
    if request.incoterm not in INCOTERMS:
        return "The parcel crosses a border: say who pays duty, DAP or DDP."
    found = customs_problems(
        request.customs,
        parcel_weight_g=request.parcel.weight_g,
        declared_value=request.declared_value or Decimal(0),
        currency=request.currency,
    )
    return " ".join(problem.message for problem in found)


def _single(request: BuyRequest) -> QuoteRequest:
    return QuoteRequest(
        origin=request.origin,
        destination=request.destination,
        parcels=(request.parcel,),
        ship_date=request.ship_date,
        origin_group=request.origin_group,
        services=(request.service,),
        currency=request.currency,
    )


def connect(account: CarrierAccount) -> TableRateConnector:
    """Load the account's active services, cards, surcharges and zone chart.

    Raises UserError naming the service whose stored rules are wrong.
    """
    tariffs = []
    services = account.services.filter(is_active=True).prefetch_related("cards__breaks", "surcharges")
    for service in services:
        try:
            tariff = Tariff(
                service_from(service.code, service.name, service.rules),
                tuple(_card(card) for card in service.cards.all()),
                tuple(_surcharge(row) for row in service.surcharges.all()),
            )
        except UserError as error:
            raise UserError(f"{account.name}, {service.name}: {error.message}", field=error.field) from error
        tariffs.append(tariff)
    chart = [
        ZoneChartRow(row.zone, row.country, row.origin_prefix, row.destination_prefix)
        for row in account.zone_overrides.all()
    ]
    return TableRateConnector(account.name, tariffs, chart)


def _card(card: RateCard) -> Card:
    breaks: dict[str, list[Break]] = defaultdict(list)
    for row in card.breaks.all():
        breaks[row.zone].append(Break(row.up_to_g, row.price, row.per_extra_kg))
    zones = {zone: tuple(rows) for zone, rows in breaks.items()}
    return Card(card.currency, card.valid_from, zones, card.valid_to, card.origin_group)


def _surcharge(row: StoredSurcharge) -> Surcharge:
    check_conditions(row.conditions)
    return Surcharge(
        row.code,
        row.name,
        row.valid_from,
        row.amount,
        row.percent,
        tuple(row.applies_to) or ("base",),
        row.conditions,
        row.position,
        row.valid_to,
    )
