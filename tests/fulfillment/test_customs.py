"""F20: parcels that cross a customs border carry a complete declaration, or get no label."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal as D
from fractions import Fraction
from io import BytesIO
from typing import Any

import pypdfium2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulfillment import bulk, labels, packing, picking, rates, routing_service
from fulfillment.carriers.base import AddressSpec, Bought, BuyRequest, CustomsItem, ParcelSpec, Rejected
from fulfillment.carriers.table_rate.connector import connect
from fulfillment.customs import declaring, papers, sharing, terms
from fulfillment.customs.declaring import CustomsBlocked
from fulfillment.customs.sharing import Goods, Sold
from fulfillment.customs.territory import MILITARY, crosses_border, territory
from fulfillment.models import (
    CarrierAccount,
    CarrierService,
    CustomsDeclaration,
    CustomsTerms,
    LabelPurchase,
    RateBreak,
    RateCard,
    Shipment,
    ZoneOverride,
)
from fulfillment.tasks import recheck_customs
from inventory import tariff
from inventory.models import Sku
from oms.core.actor import SYSTEM
from oms.core.errors import UserError
from oms.core.jobs import run_job
from oms.core.models import AuditEntry, ExceptionItem, JobRow
from oms.orders import intake
from oms.orders.drafts import ContactDraft
from oms.orders.models import FxRate, Order
from tests.factories import add_stock, line_draft, make_kit, make_sku, make_user, order_draft

TORONTO = ContactDraft(
    name="Zoe Roy", address1="1 King St", city="Toronto", region="ON", postal_code="M5V 2T6", country="CA"
)
BERLIN = ContactDraft(name="Jo Roth", address1="Torstr. 1", city="Berlin", postal_code="10115", country="DE")

# --- borders ------------------------------------------------------------------------------------------


def at(country: str, postal: str = "", region: str = "") -> AddressSpec:
    return AddressSpec(country=country, postal_code=postal, region=region)


@pytest.mark.parametrize(
    ("start", "end", "crosses"),
    [
        (at("US", "07114"), at("US", "99501"), False),  # Alaska
        (at("US", "07114"), at("US", "00901"), False),  # Puerto Rico is inside
        (at("US", "07114"), at("PR", "00901"), False),
        (at("US", "07114"), at("US", "00802"), True),  # Virgin Islands
        (at("US", "07114"), at("VI", "00802"), True),
        (at("US", "00802"), at("VI", "00802"), False),
        (at("US", "07114"), at("US", "96910"), True),  # Guam
        (at("US", "07114"), at("US", "96799"), True),  # American Samoa
        (at("US", "96701"), at("US", "96815"), False),  # Hawaii
        (at("US", "07114"), at("US", "09012", "AE"), True),  # military mail
        (at("US", "07114"), at("US", "", "AP"), True),
        (at("US", "07114"), at("CA", "M5V 2T6"), True),
        (at("DE", "10115"), at("FR", "75001"), False),  # inside the European Union
        (at("FR", "06000"), at("MC", "98000"), False),
        (at("DE", "10115"), at("CH", "8001"), True),
        (at("DE", "10115"), at("GB", "E1 6AN"), True),
        (at("GB", "E1 6AN"), at("IM", "IM1 1AA"), False),
        (at("NO", "0150"), at("NO", "5003"), False),
        (at("US", "07114"), at(""), False),  # no country decides nothing
    ],
)
def test_what_crosses_a_customs_border(start: AddressSpec, end: AddressSpec, crosses: bool) -> None:
    assert crosses_border(start, end) is crosses


def test_islands_and_mail_have_a_territory_of_their_own() -> None:
    assert [territory(at("US", code)) for code in ("96950", "96940", "96910", "34002")] == [
        "MP", "PW", "GU", MILITARY,
    ]  # fmt: skip


# --- values -------------------------------------------------------------------------------------------


def test_goods_share_what_the_order_costs_after_discounts() -> None:
    sold = {1: Sold(D("30.00"), 3, {7: (1, Fraction(1))}), 2: Sold(D("10.00"), 1, {8: (1, Fraction(1))})}
    goods = [Goods(10, 1, 7, 2), Goods(11, 1, 7, 1), Goods(12, 2, 8, 1)]
    # 5.00 off the whole order: each line gives its part
    assert sharing.share(D("35.00"), sold, goods, "USD") == {10: D("17.50"), 11: D("8.75"), 12: D("8.75")}
    assert sharing.share(D("35.00"), sold, goods[:1], "USD") == {10: D("17.50")}


def test_a_kit_is_declared_as_its_components_by_their_worth() -> None:
    sold = {1: Sold(D("60.00"), 2, {7: (1, Fraction(20)), 8: (2, Fraction(5))})}  # 20 + 2 × 5 per kit
    goods = [Goods(10, 1, 7, 2), Goods(11, 1, 8, 4)]
    assert sharing.share(D("60.00"), sold, goods, "USD") == {10: D("40.00"), 11: D("20.00")}


@given(
    total=st.decimals(min_value=0, max_value=100_000, places=2),
    nets=st.lists(st.decimals(min_value=0, max_value=5_000, places=2), min_size=1, max_size=6),
    counts=st.lists(st.integers(min_value=1, max_value=40), min_size=6, max_size=6),
)
def test_the_parts_sum_to_the_whole_to_the_coin(total: D, nets: list[D], counts: list[int]) -> None:
    sold = {i: Sold(net, counts[i], {i: (1, Fraction(1))}) for i, net in enumerate(nets)}
    goods = [Goods(i, i, i, counts[i]) for i in sold]
    found = sharing.share(total, sold, goods, "USD")
    # with every unit sent only an order whose lines cost nothing leaves something for "nowhere"
    if any(nets):
        assert sum(found.values()) == total
    for i, value in found.items():
        pairs = sharing.per_unit(value, counts[i], "USD")
        assert sum(units * each for units, each in pairs) == value
        assert sum(units for units, _ in pairs) == counts[i]


def test_unit_values_differ_by_a_coin_at_most() -> None:
    assert sharing.per_unit(D("10.00"), 3, "USD") == [(2, D("3.33")), (1, D("3.34"))]
    assert sharing.per_unit(D("1000"), 3, "JPY") == [(2, D("333")), (1, D("334"))]


# --- how it is written --------------------------------------------------------------------------------


def test_customs_data_is_written_one_way() -> None:
    assert tariff.hs_code(" 6912.00.48 ") == "69120048"
    assert tariff.origin_country("pt") == "PT"
    for check, wrong, field in (
        (tariff.hs_code, "65", "hs_code"),
        (tariff.hs_code, "mugs", "hs_code"),
        (tariff.origin_country, "Portugal", "origin_country"),
        (tariff.origin_country, "XX", "origin_country"),
    ):
        with pytest.raises(UserError) as caught:
            check(wrong)
        assert caught.value.field == field
    for name, wrong in (
        ("customs_value", "-1"),
        ("customs_value", "NaN"),
        ("weight_g", "0"),
        ("weight_g", "1.5"),
    ):
        with pytest.raises(UserError) as caught:
            tariff.read({name: wrong})
        assert caught.value.field == name


# --- the label waits ----------------------------------------------------------------------------------


def abroad(world: Any, *lines: Any, contact: ContactDraft = TORONTO, **fields: Any) -> Shipment:
    taken = intake.take(
        [order_draft(*lines, contact=contact, **fields)],
        channel=world.channel,
        actor=SYSTEM,
        source="webhook",
    )
    order = Order.objects.get(pk=taken[0].order_id)
    routing_service.route(order.pk, actor=SYSTEM)
    shipment = Shipment.objects.get(order=order)
    picking.pick_all(shipment.pk, actor=SYSTEM)
    packing.pack(shipment.pk, actor=SYSTEM)
    shipment.refresh_from_db()
    return shipment


def complete(sku: Sku, **fields: Any) -> Sku:
    tariff.set_customs(sku.pk, {"hs_code": "691200", "origin_country": "PT"} | fields, actor=SYSTEM)
    sku.refresh_from_db()
    return sku


def test_nothing_is_asked_at_home(world, carrier):
    shipment = world.packed()
    assert declaring.read(shipment) is None
    assert labels.buy(shipment.pk, actor=SYSTEM)[0].state == LabelPurchase.State.PURCHASED
    assert not CustomsDeclaration.objects.exists()


def test_a_missing_hs_code_stops_rates_and_label_before_any_carrier_is_asked(world, carrier):
    shipment = abroad(world, line_draft(world.sku, 2))
    with pytest.raises(CustomsBlocked) as caught:
        rates.shop(shipment.pk)
    assert caught.value.message == (
        f"customs: {shipment.number} crosses a border, to CA. MUG needs an HS code of 6 to 10 digits. "
        "MUG needs its country of origin, two letters."
    )
    assert [field for field, _ in caught.value.parts] == ["lines.0.hs_code", "lines.0.origin_country"]
    item = ExceptionItem.objects.get(kind="customs_missing")
    assert (item.warehouse_code, item.channel_code, item.closed_at) == (
        shipment.warehouse.code, "shop", None,
    )  # fmt: skip
    assert "MUG needs an HS code" in item.detail
    complete(world.sku, hs_code="")
    with pytest.raises(CustomsBlocked, match="MUG needs an HS code"):
        rates.shop(shipment.pk)
    assert ExceptionItem.objects.get(kind="customs_missing").seen == 2
    complete(world.sku)
    rates.shop(shipment.pk)
    Sku.objects.filter(pk=world.sku.pk).update(origin_country="")  # lost between rates and label
    with pytest.raises(CustomsBlocked, match="MUG needs its country of origin"):
        labels.buy(shipment.pk, actor=SYSTEM)
    assert carrier.calls == 0 and not LabelPurchase.objects.exists()
    complete(world.sku)
    assert labels.buy(shipment.pk, actor=SYSTEM)[0].state == LabelPurchase.State.PURCHASED
    assert ExceptionItem.objects.get(kind="customs_missing").closed_at is not None


def test_the_carrier_is_told_what_was_declared_and_the_books_keep_it(world, carrier, monkeypatch):
    terms.put("CA", incoterm="DDP", eori="us123", tax_id="BN 1234", actor=SYSTEM)
    complete(world.sku, customs_description="Ceramic mug")
    shipment = abroad(
        world, line_draft(world.sku, 3, discount=D("2.00")), discount=D("2.00"), subtotal=D("30.00")
    )
    asked: list[BuyRequest] = []
    bought = carrier.buy
    monkeypatch.setattr(
        carrier, "buy", lambda request, *, key: asked.append(request) or bought(request, key=key)
    )
    rates.shop(shipment.pk)
    labels.buy(shipment.pk, actor=SYSTEM)
    [request] = asked
    assert request.customs == (
        CustomsItem("MUG", "Ceramic mug", 2, D("9.33"), "USD", 380, "691200", "PT"),
        CustomsItem("MUG", "Ceramic mug", 1, D("9.34"), "USD", 380, "691200", "PT"),
    )
    assert (request.incoterm, request.declared_value, request.customs_numbers) == (
        "DDP", D("28.00"), {"eori": "US123", "tax_id": "BN 1234"},
    )  # fmt: skip
    row = CustomsDeclaration.objects.get()
    assert (row.value, row.incoterm, row.currency) == (D("28.00"), "DDP", "USD")
    # what changes at the SKU later does not change what was declared
    complete(world.sku, hs_code="999999", customs_description="Something else")
    again = declaring.current(shipment)
    assert again is not None and {entry.item.hs_code for entry in again.entries} == {"691200"}
    labels.buy(shipment.pk, actor=SYSTEM)
    assert carrier.calls == 1


def test_parcels_declare_what_is_in_them_and_sum_to_the_order(world, carrier):
    cap = complete(make_sku("CAP", weight_g=90, length_mm=200, width_mm=150, height_mm=60))
    add_stock(cap, world.east, 10)
    complete(world.sku)
    shipment = abroad(
        world, line_draft(world.sku, 3, unit_price=D("11.11")), line_draft(cap, 2, unit_price=D("7.00")),
        subtotal=D("47.33"), discount=D("4.00"),
    )  # fmt: skip
    mug, hat = shipment.lines.order_by("pk")
    packing.pack(shipment.pk, [packing.Box({mug.pk: 2}), packing.Box({mug.pk: 1, hat.pk: 2})], actor=SYSTEM)
    found = declaring.read(shipment)
    assert found is not None and found.problems == ()
    first, second = (packing.live_parcels(shipment)[i].number for i in (0, 1))
    assert found.value == D("43.33")
    assert sum(item.quantity for item in found.parcel(first)) == 2
    assert {item.sku: item.quantity for item in found.parcel(second) if item.sku == "CAP"} == {"CAP": 2}
    assert {entry.parcel for entry in found.entries} == {first, second}


def test_an_order_in_two_shipments_declares_its_worth_once(world, carrier):
    complete(world.sku)
    order = world.order(15, contact=TORONTO)  # ten here, five there
    routing_service.route(order.pk, actor=SYSTEM)
    shipments = list(Shipment.objects.filter(order=order))
    assert len(shipments) == 2
    assert sum(found.value for one in shipments if (found := declaring.read(one))) == order.subtotal


def test_kits_declare_their_components(world, carrier):
    lid = make_sku("LID", weight_g=50, length_mm=90, width_mm=90, height_mm=10, price=D("5"))
    Sku.objects.filter(pk=world.sku.pk).update(price=D("20"))
    add_stock(lid, world.east, 10)
    kit = make_kit("SET", {world.sku: 1, lid: 2})
    complete(world.sku)
    shipment = abroad(world, line_draft(kit, 1, unit_price=D("24.00")))
    with pytest.raises(CustomsBlocked, match="LID needs an HS code") as caught:
        rates.shop(shipment.pk)
    assert "SET" not in caught.value.message
    complete(lid)
    found = declaring.read(shipment)
    assert found is not None and found.problems == ()
    assert {entry.item.sku: (entry.item.quantity, entry.item.unit_value) for entry in found.entries} == {
        "MUG": (1, D("16.00")), "LID": (2, D("4.00")),
    }  # fmt: skip


def test_what_was_free_is_declared_at_its_own_worth(world, carrier):
    complete(world.sku)
    Sku.objects.filter(pk=world.sku.pk).update(price=0)
    shipment = abroad(world, line_draft(world.sku, 1, unit_price=D("0")))
    with pytest.raises(CustomsBlocked, match="MUG needs a customs value above zero") as caught:
        rates.shop(shipment.pk)
    assert caught.value.field == "lines.0.customs_value"
    complete(world.sku, customs_value=D("8.50"))
    found = declaring.read(shipment)
    assert found is not None and (found.problems, found.value) == ((), D("8.50"))


def test_contents_never_weigh_more_than_their_parcel(world, carrier):
    complete(world.sku)
    shipment = abroad(world, line_draft(world.sku, 2))
    line = shipment.lines.get()
    packing.pack(shipment.pk, [packing.Box({line.pk: 2}, weight_g=700)], actor=SYSTEM)
    with pytest.raises(CustomsBlocked, match="760 g by their SKUs, the whole parcel only 700 g"):
        rates.shop(shipment.pk)
    complete(world.sku, weight_g=340)
    assert rates.shop(shipment.pk)


def test_an_item_in_the_inbox_closes_wherever_the_sku_was_completed(world, carrier):
    shipment = abroad(world, line_draft(world.sku, 1))
    with pytest.raises(CustomsBlocked):
        rates.shop(shipment.pk)
    recheck_customs()
    assert ExceptionItem.objects.get(kind="customs_missing").closed_at is None
    Sku.objects.filter(pk=world.sku.pk).update(hs_code="6912.00", origin_country="PT")  # as a file does
    recheck_customs()
    assert ExceptionItem.objects.get(kind="customs_missing").closed_at is not None


def test_many_labels_at_once_say_whose_customs_data_is_missing(world, carrier):
    owner = make_user("boss")
    home, away = world.packed(1), abroad(world, line_draft(world.sku, 1))
    from oms.core.actor import actor_of

    job = bulk.start("labels", [home.order_id, away.order_id], {}, actor=actor_of(owner))
    run_job(job.pk)
    rows = list(JobRow.objects.filter(job=job).order_by("number").values_list("ok", "message"))
    assert rows[0][0] is True
    assert rows[1][0] is False and "MUG needs an HS code" in rows[1][1]
    assert ExceptionItem.objects.get(kind="customs_missing").url == f"/shipments/{away.pk}/"
    assert not ExceptionItem.objects.filter(kind="label_failed").exists()
    assert carrier.calls == 1


# --- terms --------------------------------------------------------------------------------------------


def test_the_closest_terms_hold(db):
    terms.put("", incoterm="DAP", eori="GB123", actor=SYSTEM)
    terms.put("EU", incoterm="DDP", ioss="IM3720000224", actor=SYSTEM)
    terms.put("FR", incoterm="DAP", tax_id="FR1", actor=SYSTEM)
    FxRate.objects.create(currency="EUR", day=dt.date(2026, 1, 1), rate=D("1.25"))

    def found(country: str, value: str = "100", currency: str = "USD") -> tuple[str, dict[str, str]]:
        one = terms.terms_for(at(country), D(value), currency)
        return one.incoterm, one.numbers

    assert found("CA") == ("DAP", {"eori": "GB123"})
    assert found("FR") == ("DAP", {"tax_id": "FR1"})
    assert found("DE") == ("DDP", {"ioss": "IM3720000224"})
    assert found("DE", "187.50") == ("DDP", {"ioss": "IM3720000224"})  # 150 EUR
    assert found("DE", "187.51") == ("DDP", {})
    assert found("DE", "150", "EUR") == ("DDP", {"ioss": "IM3720000224"})
    assert found("DE", "10", "CHF") == ("DDP", {})  # nobody knows how much that is
    assert AuditEntry.objects.filter(action="customs.terms").count() == 3
    terms.put("FR", incoterm="DAP", tax_id="FR1", actor=SYSTEM)
    assert AuditEntry.objects.filter(action="customs.terms").count() == 3
    terms.remove(CustomsTerms.objects.get(destination="FR").pk, actor=SYSTEM)
    assert found("FR") == ("DDP", {"ioss": "IM3720000224"})


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"destination": "XX"}, "destination"),
        ({"destination": "CA", "incoterm": "EXW"}, "incoterm"),
        ({"destination": "EU", "eori": "1234"}, "eori"),
        ({"destination": "EU", "ioss": "EU372022452"}, "ioss"),
        ({"destination": "CA", "ioss": "IM3720000224"}, "ioss"),
    ],
)
def test_wrong_terms_name_their_field(db, given, field):
    with pytest.raises(UserError) as caught:
        terms.put(**{"incoterm": "DAP", "actor": SYSTEM} | given)
    assert caught.value.field == field
    assert not CustomsTerms.objects.exists()


# --- papers and the carrier of our own ----------------------------------------------------------------


def words(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(BytesIO(pdf))
    return " ".join(" ".join(page.get_textpage().get_text_range() for page in document).split())


def test_the_commercial_invoice_says_what_was_declared(world, carrier):
    terms.put("EU", incoterm="DDP", ioss="IM3720000224", eori="DE77", actor=SYSTEM)
    FxRate.objects.create(currency="EUR", day=dt.date(2026, 1, 1), rate=D("1.1"))
    complete(world.sku)
    shipment = abroad(
        world, line_draft(world.sku, 2), contact=BERLIN, shipping=D("4.50"), subtotal=D("20.00")
    )
    rates.shop(shipment.pk)
    labels.buy(shipment.pk, actor=SYSTEM)
    shown = words(
        papers.invoice_pdf(Shipment.objects.select_related("order", "warehouse").get(pk=shipment.pk))
    )
    for piece in (f"CI-{shipment.pk}", "Berlin", "EORI DE77", "IOSS IM3720000224", "DDP, USD", "691200 PT 2 0.760",
                  "10.00 20.00", "Freight 4.50 USD", "Invoice total 24.50 USD", "1Z000000001"):  # fmt: skip
        assert piece in shown, (piece, shown)


def test_no_invoice_at_home_nor_with_missing_data(world, carrier):
    with pytest.raises(UserError, match="crosses no customs border"):
        papers.invoice_pdf(world.packed(1))
    with pytest.raises(CustomsBlocked):
        papers.invoice_pdf(abroad(world, line_draft(world.sku, 1)))


def test_our_own_carrier_checks_the_declaration_as_any_carrier_does(world):
    account = CarrierAccount.objects.create(code="van", name="Van", connector="table_rate")
    service = CarrierService.objects.create(account=account, code="intl", name="Van abroad", rules={})
    card = RateCard.objects.create(service=service, valid_from=dt.date(2020, 1, 1))
    RateBreak.objects.create(card=card, zone="K", up_to_g=10_000, price=D("19.00"))
    ZoneOverride.objects.create(account=account, country="CA", origin_prefix="", zone="K")
    mug = CustomsItem("MUG", "Mug", 2, D("10.00"), "USD", 380, "691200", "PT")
    request = BuyRequest(
        service="intl", origin=at("US", "07114"), destination=at("CA", "M5V 2T6"),
        parcel=ParcelSpec(900, 260, 240, 150), reference="S-1-1-1", ship_date=dt.date(2026, 11, 26),
        customs=(mug,), incoterm="DAP", declared_value=D("20.00"),
    )  # fmt: skip
    key = "6f1d3c0e-5c0a-5e0b-9c55-1ad1465c10ad"
    from dataclasses import replace

    assert isinstance(connect(account).buy(request, key=key), Bought)
    for change, message in (
        ({"customs": ()}, "nothing to declare"),
        ({"incoterm": ""}, "DAP or DDP"),
        ({"declared_value": D("19.99")}, "sum to 20.00 USD"),
        ({"customs": (replace(mug, hs_code=""),)}, "MUG needs an HS code"),
        ({"parcel": ParcelSpec(700, 260, 240, 150)}, "760 g by their SKUs"),
    ):
        answer = connect(account).buy(replace(request, **change), key=key)
        assert isinstance(answer, Rejected) and message in answer.problem.message, change
    assert isinstance(connect(account).buy(replace(request, customs=(), is_return=True), key=key), Bought)
