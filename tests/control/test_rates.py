"""Exchange rates: who sees costs keeps them, orders that waited are counted, stamped ones stay (O15)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from oms.core.actor import SYSTEM
from oms.core.errors import Conflict, UserError
from oms.core.models import ExceptionItem
from oms.orders import rates
from oms.orders.intake import take
from oms.orders.models import FxRate, Order
from tests.factories import T0, line_draft, make_channel, make_sku, make_user, make_warehouse, order_draft

pytestmark = pytest.mark.django_db
DAY = T0.date()


def euro_order() -> Order:
    channel = make_channel("shop", make_warehouse("EAST"))
    take(
        [order_draft(line_draft(make_sku("MUG")), currency="EUR")],
        channel=channel,
        actor=SYSTEM,
        source="api",
    )
    return Order.objects.get()


def test_a_rate_stamps_what_waited_and_closes_its_exception() -> None:
    order = euro_order()
    item = ExceptionItem.objects.get(kind="fx_missing")
    assert item.url == "/settings/rates/?currency=EUR"
    rates.set_rate("EUR", DAY + dt.timedelta(days=1), Decimal("1.2"), actor=SYSTEM)
    order.refresh_from_db()
    assert order.fx_day is None, "a later rate is not the order's"
    _, stamped = rates.set_rate("eur", DAY, Decimal("1.1"), actor=SYSTEM)
    order.refresh_from_db()
    assert (stamped, order.fx_rate, order.fx_day) == (1, Decimal("1.1"), DAY)
    item.refresh_from_db()
    assert item.closed_at
    with pytest.raises(Conflict, match="orders carry"):
        rates.set_rate("EUR", DAY, Decimal("9"), actor=SYSTEM)
    with pytest.raises(Conflict, match="it stays"):
        rates.remove_rate(FxRate.objects.get(day=DAY).pk, actor=SYSTEM)


@pytest.mark.parametrize(
    ("currency", "day", "rate", "words"),
    [
        ("EURO", DAY, "1", "not an ISO 4217"),
        ("USD", DAY, "1", "business currency"),
        ("EUR", dt.date(2999, 1, 1), "1", "future"),
        ("EUR", DAY, "0", "above 0"),
        ("EUR", DAY, "NaN", "above 0"),
        ("EUR", DAY, "0.000000001", "eight decimals"),
    ],
)
def test_a_wrong_rate_is_refused(currency: str, day: dt.date, rate: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        rates.set_rate(currency, day, Decimal(rate), actor=SYSTEM)
    assert not FxRate.objects.exists()


def test_the_screen_is_open_to_whoever_sees_costs(client: Client) -> None:
    euro_order()
    client.force_login(make_user("omar", "ops"))
    url = reverse("control:rates")
    page = client.get(url, {"currency": "EUR"}).content.decode()
    assert "1 order in EUR" in page
    assert 'value="EUR"' in page
    assert client.post(url, {"currency": "EUR", "day": "soon", "rate": "1"}).status_code == 422
    client.post(url, {"currency": "EUR", "day": f"{DAY}", "rate": "1.0842"})
    assert Order.objects.get().fx_rate == Decimal("1.0842")
    client.force_login(make_user("sam", "support"))
    assert client.get(url).status_code == 403
