"""Printed documents read back as text and barcodes; customs rules."""

from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal as D

import pypdfium2
import pytest
import zxingcpp
from hypothesis import given
from hypothesis import strategies as st

from fulfillment.carriers.base import AddressSpec, CustomsItem
from fulfillment.documents.commercial_invoice import CommercialInvoice, commercial_invoice, customs_problems
from fulfillment.documents.manifest import ManifestParcel, ManifestSheet, manifest
from fulfillment.documents.packing_slip import PackingSlip, SlipLine, packing_slips
from fulfillment.documents.page import money, page_size
from fulfillment.documents.pick_list import Pick, PickList, Stop, pick_list, walk
from fulfillment.documents.purchase_order import OrderedItem, PurchaseOrderSheet, purchase_order, total_of

DAY = date(2026, 11, 23)
EAST = AddressSpec("East", "Lading Demo Inc", "12 Dock Road", "", "", "Memphis", "TN", "38118", "US")
BERLIN = AddressSpec("Jürgen Groß", "", "Straße 1", "", "", "Berlin", "", "10115", "DE", phone="+49 30 1")


def words(document, page=None):
    pdf = pypdfium2.PdfDocument(document.content)
    pages = range(len(pdf)) if page is None else [page]
    return " ".join(" ".join(pdf[n].get_textpage().get_text_bounded().split()) for n in pages)


def pages(document):
    return len(pypdfium2.PdfDocument(document.content))


def barcode(document, page=0):
    image = pypdfium2.PdfDocument(document.content)[page].render(scale=300 / 72).to_pil()
    return [found.text for found in zxingcpp.read_barcodes(image)]


# --- packing slip ----------------------------------------------------------------------------------

SLIP = PackingSlip(
    "S-7", "SH-10041", "Northwind Mugs", date(2026, 11, 20), BERLIN, EAST,
    (SlipLine("MUG-BLU", "Blue mug", 2, 5), SlipLine("CAP", "Cap", 1, 1)), service="Ground", message="Thank you!",
)  # fmt: skip


def test_packing_slip_says_what_is_in_the_box():
    made = packing_slips([SLIP])
    shown = words(made)
    for piece in ("Northwind Mugs", "Jürgen Groß", "Berlin 10115 DE", "Order SH-10041", "Ordered 20 Nov 2026",
                  "MUG-BLU Blue mug 2 5", "CAP Cap 1 1", "Units 3", "The rest of your order comes separately.",
                  "Thank you!", "Page 1"):  # fmt: skip
        assert piece in shown
    assert "Price" not in shown
    assert barcode(made) == ["S-7"]
    assert made.warning == ""


def test_prices_are_printed_only_when_given():
    priced = replace(SLIP, lines=(SlipLine("MUG-BLU", "Blue mug", 2, 2, D("1234.5")),), currency="EUR")
    shown = words(packing_slips([priced]))
    assert "1,234.50 EUR" in shown and "The rest" not in shown


def test_many_slips_are_pages_of_one_file_in_order():
    made = packing_slips([replace(SLIP, shipment_number=f"S-{n}") for n in (9, 8, 7)])
    assert [barcode(made, page) for page in range(pages(made))] == [["S-9"], ["S-8"], ["S-7"]]
    with pytest.raises(ValueError, match="no packing slip"):
        packing_slips([])


def test_markup_in_a_shoppers_name_is_text():
    hostile = replace(SLIP, ship_to=replace(BERLIN, name="<b>x</b><img src='file:///etc/passwd'/> & Co"))
    assert "<b>x</b><img src='file:///etc/passwd'/> & Co" in words(packing_slips([hostile]))


def test_unprintable_names_are_warned_about():
    made = packing_slips([replace(SLIP, ship_to=replace(BERLIN, name="東京さくら"))])
    assert "??sakura" in words(made)
    assert made.warning.startswith("Some characters cannot be printed")


def test_long_slips_repeat_the_header_and_same_data_makes_same_bytes():
    long = replace(SLIP, lines=tuple(SlipLine(f"SKU-{n}", "Item " * 9, 1, 1) for n in range(90)))
    made = packing_slips([long])
    assert pages(made) > 2
    assert all("In this box" in words(made, page) for page in range(pages(made) - 1))
    assert "SKU-89" in words(made)
    assert packing_slips([long]).content == made.content


# --- pick list -------------------------------------------------------------------------------------

PICKS = (
    Pick("B-01", 20, "CAP", "Cap", 1, "T2"),
    Pick("A-03-2", 10, "MUG", "Mug", 2, "T1"),
    Pick("A-03-2", 10, "MUG", "Mug", 1, "T2"),
    Pick("A-03-2", 10, "MUG", "Mug", 3, "T1", lot="L7"),
    Pick("A-03-2", 10, "MUG", "Mug", 4, "T1"),
)


def test_walk_follows_the_bins_and_adds_up_per_tote():
    assert walk(PICKS) == [
        Stop("A-03-2", "MUG", "Mug", "", 7, (("T1", 6), ("T2", 1))),
        Stop("A-03-2", "MUG", "Mug", "L7", 3, (("T1", 3),)),
        Stop("B-01", "CAP", "Cap", "", 1, (("T2", 1),)),
    ]


def test_pick_list_on_paper():
    made = pick_list(
        PickList("W-31", "East", datetime(2026, 11, 23, 9, 30), PICKS, (("T1", "S-7"), ("T2", "S-8")))
    )
    shown = words(made)
    for piece in (
        "Pick list W-31",
        "3 stops, 11 units, 2 totes",
        "☐ A-03-2 MUG Mug 7 T1 × 6, T2 × 1",
        "Lot L7",
        "T2 S-8",
    ):
        assert piece in shown
    assert shown.index("A-03-2") < shown.index("B-01")
    assert barcode(made) == ["W-31"]


@given(
    st.lists(
        st.builds(
            Pick, st.sampled_from(["A", "B"]), st.integers(0, 2), st.sampled_from(["MUG", "CAP"]), st.just("t"),
            st.integers(1, 5), st.sampled_from(["T1", "T2"]), st.sampled_from(["", "L"]),
        )
    )
)  # fmt: skip
def test_no_unit_is_lost_on_the_walk(picks):
    stops = walk(picks)
    assert sum(stop.quantity for stop in stops) == sum(pick.quantity for pick in picks)
    assert all(stop.quantity == sum(count for _, count in stop.totes) for stop in stops)
    assert walk(picks[::-1]) == stops


# --- purchase order --------------------------------------------------------------------------------


def test_purchase_order():
    order = PurchaseOrderSheet(
        "PO-77", "Lading Demo Inc", "Acme GmbH", "Hafen 1\nHamburg", EAST, "EUR", DAY,
        (
            OrderedItem(1, "MUG", "AC-1", "Blue mug", 120, D("2.3450")),
            OrderedItem(2, "CAP", "", "Cap", 3, D("0.335"), date(2026, 12, 1)),
        ),
        expected_on=date(2026, 12, 14), payment_terms="30 days", note="Call before delivery.",
    )  # fmt: skip
    # 281.40 and 1.005 → 1.01
    assert total_of(order) == D("282.41")
    made = purchase_order(order)
    shown = words(made)
    for piece in ("Purchase order PO-77", "Acme GmbH Hafen 1 Hamburg", "yours: AC-1", "120 2.345 281.40",
                  "3 0.335 1.01", "expected 01 Dec 2026", "Total 123 282.41 EUR", "Terms 30 days",
                  "Call before delivery."):  # fmt: skip
        assert piece in shown
    assert barcode(made) == ["PO-77"]


# --- customs ---------------------------------------------------------------------------------------

MUG = CustomsItem("MUG", "Ceramic mug", 2, D("12.50"), "USD", 400, "6912.00.48", "PT")
CAP = CustomsItem("CAP", "Cotton cap", 1, D("9.99"), "USD", 90, "650500", "BD")


def problems(*items, weight=1200, value="34.99"):
    found = customs_problems(items, parcel_weight_g=weight, declared_value=D(value), currency="USD")
    return [(problem.sku, problem.field) for problem in found]


def test_complete_customs_data_has_no_problem():
    assert problems(MUG, CAP) == []
    assert problems(MUG, CAP, weight=890) == []


def test_each_missing_piece_names_sku_and_field():
    assert problems(replace(MUG, hs_code=""), CAP) == [("MUG", "hs_code")]
    assert problems(MUG, replace(CAP, hs_code="65", origin_country="")) == [
        ("CAP", "hs_code"),
        ("CAP", "origin_country"),
    ]
    assert problems(replace(MUG, weight_g=0), CAP) == [("MUG", "weight_g")]
    assert problems(replace(MUG, unit_value=D(0)), CAP, value="9.99") == [("MUG", "unit_value")]
    assert problems(MUG, replace(CAP, currency="EUR")) == [("CAP", "currency")]
    assert problems() == [("", "items")]


def test_values_and_weights_must_agree_with_order_and_parcel():
    assert problems(MUG, CAP, value="35.00") == [("", "declared_value")]
    assert problems(MUG, CAP, weight=889) == [("", "weight_g")]
    (problem,) = customs_problems([MUG], parcel_weight_g=1000, declared_value=D("20"), currency="USD")
    assert problem.message == "Declared values sum to 25.00 USD, the order to 20.00 USD."


INVOICE = CommercialInvoice(
    "CI-S-7", DAY, EAST, BERLIN, (MUG, CAP), "USD", "DAP", 1, 1200, freight=D("18.40"),
    numbers={"eori": "US12", "tax_id": "12-3456789"}, tracking_numbers=("LD1",),
)  # fmt: skip


def test_commercial_invoice():
    made = commercial_invoice(INVOICE)
    shown = words(made)
    for piece in ("Commercial invoice", "EORI US12", "Tax id 12-3456789", "+49 30 1", "DAP, USD",
                  "Reason for export: sale",
                  "gross 1.200 kg LD1", "Ceramic mug MUG 6912.00.48 PT 2 0.800 12.50 25.00", "Goods 3 0.890 34.99 USD",
                  "Freight 18.40 USD", "Invoice total 53.39 USD"):  # fmt: skip
        assert piece in shown, piece


def test_commercial_invoice_refuses_unknown_terms():
    for change, message in (
        ({"incoterm": "XYZ"}, "incoterm 'XYZ'"),
        ({"reason": "fun"}, "reason 'fun'"),
        ({"items": ()}, "one item"),
    ):
        with pytest.raises(ValueError, match=message):
            commercial_invoice(replace(INVOICE, **change))


# --- manifest, page --------------------------------------------------------------------------------


def test_manifest_lists_every_parcel_once():
    parcels = tuple(
        ManifestParcel(f"LD{n:018d}", f"S-{n}", "Ground" if n % 2 else "Air", 500, "Nashville TN")
        for n in range(60)
    )
    made = manifest(ManifestSheet("MF-3", "Lading", "East", DAY, parcels, carrier_ref="X9"))
    shown = words(made)
    assert all(shown.count(parcel.tracking_number) == 1 for parcel in parcels)
    for piece in ("60 parcels, 30.00 kg", "Air 30", "Ground 30", "X9", "23 Nov 2026"):
        assert piece in shown
    assert barcode(made) == ["MF-3"]
    with pytest.raises(ValueError, match="at least one parcel"):
        manifest(ManifestSheet("MF-3", "Lading", "East", DAY, ()))


def test_paper_and_money():
    assert page_size("US") == (612, 792) and round(page_size("DE")[0]) == 595
    assert money(D("1234.565"), "USD") == "1,234.57 USD" and money(D("99.5"), "JPY") == "100 JPY"
