"""A table-rate account loaded from its stored cards, surcharges and zone chart."""

from datetime import date
from decimal import Decimal

import pytest

from fulfillment.carriers.base import AddressSpec, Bought, BuyRequest, ParcelSpec, QuoteRequest, connector_for
from fulfillment.models import CarrierAccount, CarrierService, RateBreak, RateCard, Surcharge, ZoneOverride
from oms.core.errors import UserError

EAST = AddressSpec("East", street1="12 Dock Road", city="Memphis", region="TN", postal_code="38118")
BUYER = AddressSpec(
    "Ada", street1="1 Main St", city="Nashville", region="TN", postal_code="37203", residential=True
)
PARCEL = ParcelSpec(454, 100, 100, 50)
DAY = date(2026, 11, 23)


@pytest.fixture
def account(db):
    account = CarrierAccount.objects.create(code="van", name="Own vans", connector="table_rate")
    service = CarrierService.objects.create(
        account=account, code="ground", name="Ground", rules={"weight_step": "1 lb", "transit_days": {"3": 2}}
    )
    card = RateCard.objects.create(service=service, currency="USD", valid_from=date(2026, 1, 1))
    RateBreak.objects.create(card=card, zone="3", up_to_g=454, price=Decimal("7.40"))
    RateBreak.objects.create(
        card=card, zone="3", up_to_g=2268, price=Decimal("9.10"), per_extra_kg=Decimal("0.50")
    )
    own = RateCard.objects.create(
        service=service, origin_group="EAST", currency="USD", valid_from=date(2026, 1, 1)
    )
    RateBreak.objects.create(card=own, zone="3", up_to_g=454, price=Decimal("6.00"))
    Surcharge.objects.create(
        service=service, code="home", name="Residential", amount=Decimal("2"), conditions={"residential": True},
        valid_from=date(2026, 1, 1), position=10,
    )  # fmt: skip
    Surcharge.objects.create(
        service=service, code="fuel", name="Fuel", percent=Decimal("10"), applies_to=["base", "home"],
        valid_from=date(2026, 1, 1), position=20,
    )  # fmt: skip
    return account


def request(**kwargs):
    return QuoteRequest(EAST, BUYER, (PARCEL,), DAY, **kwargs)


def test_stored_tariff_gives_the_price(account, django_assert_num_queries):
    with django_assert_num_queries(5):
        connector = connector_for(account)
    (rate,) = connector.quote(request()).rates
    assert (rate.service, rate.amount, rate.zone, rate.arrives_on) == (
        "ground",
        Decimal("10.34"),
        "3",
        date(2026, 11, 25),
    )
    assert [(c.code, c.amount) for c in rate.charges] == [
        ("base", Decimal("7.40")), ("home", Decimal("2.00")), ("fuel", Decimal("0.94")),
    ]  # fmt: skip
    assert connector.quote(request(origin_group="EAST")).rates[0].amount == Decimal("8.80")


def test_stored_chart_overrides_the_formula(account):
    ZoneOverride.objects.create(account=account, origin_prefix="381", destination_prefix="372", zone="9")
    assert [p.message for p in connector_for(account).quote(request()).problems] == [
        "Ground: zone 9 has no price."
    ]


def test_inactive_services_are_left_out(account):
    account.services.update(is_active=False)
    assert connector_for(account).quote(request()).rates == ()


def test_label_costs_what_was_quoted(account):
    outcome = connector_for(account).buy(
        BuyRequest("ground", EAST, BUYER, PARCEL, "S-1-1-1", DAY), key="6f1d3c0e-5c0a-5e0b-9c55-1ad1465c10ad"
    )
    assert isinstance(outcome, Bought) and outcome.cost == Decimal("10.34")


def test_wrong_stored_rules_name_account_and_service(account):
    account.services.update(rules={"weight_step": "a stone"})
    with pytest.raises(UserError, match="Own vans, Ground: rules: weight_step is a weight such as"):
        connector_for(account)
