"""Labels: numbers with a check digit, PDF read back with a barcode reader, ZPL by its structure, all scripts."""

import re
from dataclasses import replace
from datetime import date
from decimal import Decimal
from uuid import UUID, uuid5

import pypdfium2
import pytest
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st

from fulfillment.carriers.base import (
    AddressSpec,
    Bought,
    BuyRequest,
    Capability,
    NotFoundAtCarrier,
    ParcelSpec,
    Rejected,
)
from fulfillment.carriers.table_rate.connector import TableRateConnector
from fulfillment.carriers.table_rate.labels import (
    LabelData,
    is_tracking_number,
    pdf_label,
    pdf_labels,
    spaced,
    tracking_number,
    zpl_label,
    zpl_text,
)
from fulfillment.carriers.table_rate.rating import Break, Card, Tariff, service_from
from fulfillment.documents import text

KEY = "6f1d3c0e-5c0a-5e0b-9c55-1ad1465c10ad"
EAST = AddressSpec(
    "East warehouse",
    "Lading Demo Inc",
    "12 Dock Road",
    "",
    "",
    "Memphis",
    "TN",
    "38118",
    "US",
    residential=False,
)
BUYER = AddressSpec("Ada Example", "", "1 Main St", "Apt 4", "", "Nashville", "TN", "37203", "US")
REQUEST = BuyRequest(
    "ground",
    EAST,
    BUYER,
    ParcelSpec(1234, 300, 200, 100),
    "S-7-1-1",
    date(2026, 11, 23),
    order_number="SH-10041",
)


def label(request=REQUEST, key=KEY):
    return LabelData(request, tracking_number(key), "Lading Ground", "Lading")


def to(**changes):
    return label(replace(REQUEST, destination=replace(BUYER, **changes)))


def pages(content):
    return pypdfium2.PdfDocument(content)


def words(content, page=0):
    return pages(content)[page].get_textpage().get_text_bounded()


def barcodes(content, page=0, dpi=203):
    image = pages(content)[page].render(scale=dpi / 72).to_pil()
    return [(found.text, str(found.format)) for found in zxingcpp.read_barcodes(image)]


# --- numbers ---------------------------------------------------------------------------------------


def test_the_same_purchase_has_the_same_number():
    number = tracking_number(KEY)
    assert number == tracking_number(KEY) == tracking_number(KEY.upper())
    assert re.fullmatch(r"LD\d{18}", number)
    assert tracking_number(str(UUID(int=0))) == "LD000000000000000000"
    assert is_tracking_number(number) and is_tracking_number(spaced(number).lower())
    with pytest.raises(ValueError, match="badly formed"):
        tracking_number("S-7-1")


@given(st.uuids(), st.integers(0, 17), st.integers(1, 9))
def test_one_wrong_digit_is_always_found(key, place, shift):
    number = tracking_number(str(key))
    digits = number[2:]
    wrong = digits[:place] + str((int(digits[place]) + shift) % 10) + digits[place + 1 :]
    assert is_tracking_number(number) and not is_tracking_number("LD" + wrong)


@given(st.uuids(), st.integers(0, 16))
def test_two_swapped_neighbours_are_always_found(key, place):
    number = tracking_number(str(key))
    digits = number[2:]
    swapped = digits[:place] + digits[place + 1] + digits[place] + digits[place + 2 :]
    assert is_tracking_number("LD" + swapped) == (swapped == digits)


@pytest.mark.parametrize(
    "number",
    ["", "LD", "1Z999AA10123456784", "LD12345678901234567", "LD１２３４５６７８９０１２３４５６７８"],
)
def test_foreign_numbers_are_not_ours(number):
    assert not is_tracking_number(number)


def test_a_thousand_purchases_have_a_thousand_numbers():
    assert len({tracking_number(str(uuid5(UUID(KEY), str(n)))) for n in range(1000)}) == 1000


# --- PDF -------------------------------------------------------------------------------------------


def test_the_barcode_reads_back_at_printer_resolution():
    made = pdf_label(label())
    assert made.content.startswith(b"%PDF") and made.warning == ""
    assert barcodes(made.content) == [(tracking_number(KEY), "Code 128")]
    page = pages(made.content)[0]
    assert page.get_size() == (288, 432)  # 4 × 6 inch


def test_the_label_says_who_where_and_what():
    shown = words(pdf_label(label()).content)
    for piece in ("Ada Example", "1 Main St", "Apt 4", "Nashville TN 37203", "Memphis TN 38118", "Lading Ground",
                  "SHIP TO", "Parcel 1 of 1", "1.23 kg / 2.72 lb", "23 Nov 2026", "Ref S-7-1-1", "Order SH-10041",
                  spaced(tracking_number(KEY))):  # fmt: skip
        assert piece in shown
    assert "US" not in shown.split()


def test_the_country_is_printed_abroad_and_returns_say_so():
    assert "DE" in words(pdf_label(to(country="DE")).content).split()
    assert "RETURN TO" in words(pdf_label(label(replace(REQUEST, is_return=True))).content)


def test_the_same_data_makes_the_same_bytes():
    assert pdf_label(label()).content == pdf_label(label()).content


def test_many_labels_are_pages_of_one_file_in_order():
    keys = [str(uuid5(UUID(KEY), str(n))) for n in range(3)]
    made = pdf_labels([label(key=key) for key in keys])
    assert [barcodes(made.content, page)[0][0] for page in range(3)] == [tracking_number(key) for key in keys]
    assert len(pages(made.content)) == 3


def test_long_lines_shrink_and_then_end_in_an_ellipsis():
    made = pdf_label(to(name="Extremely Long Department Name of a Company That Never Ends " * 2))
    shown = words(made.content)
    assert "Extremely Long Department" in shown and "…" in shown
    assert barcodes(made.content) == [(tracking_number(KEY), "Code 128")]


@pytest.mark.parametrize(
    "name", ["Żaneta Świątek", "Søren Ærø", "Ελένη Παπαδοπούλου", "Оксана Щербак", "Đặng Thị Hồng"]
)
def test_letters_of_europe_and_vietnam_are_printed_as_they_are(name):
    made = pdf_label(to(name=name))
    assert made.warning == "" and name in words(made.content)


def test_what_cannot_be_drawn_is_spelled_or_marked_and_warned_about():
    made = pdf_label(to(name="さくら 서울 東京", street1="1 \U0001f600 St"))
    shown = words(made.content)
    assert "sakura seoul ??" in shown and "1 ? St" in shown
    assert made.warning.startswith("Some characters cannot be printed and were spelled or replaced: さ く ら")
    assert "東" in made.warning and "\U0001f600" in made.warning


# --- ZPL -------------------------------------------------------------------------------------------


def fields(content):
    """The data of all fields, hexadecimal escapes undone as a printer does."""
    raw = re.findall(r"\^FD(.*?)\^FS", content.decode("utf-8"))
    return [re.sub(r"_([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), data) for data in raw]


def test_zpl_is_one_label_in_utf8_with_a_code_128():
    content = zpl_label(label()).content.decode()
    assert content.startswith("^XA\n^CI28\n^PW812\n^LL1218\n") and content.endswith("^XZ\n")
    assert content.count("^XA") == content.count("^XZ") == 1
    assert f"^BCN,220,N,N,N,A^FD{tracking_number(KEY)}^FS" in content
    for piece in ("Ada Example", "Nashville TN 37203", "SHIP TO", "Parcel 1 of 1", "Ref S-7-1-1"):
        assert piece in fields(content.encode())


def test_commands_in_an_address_are_data():
    hostile = "^XZ~JA_5E^FS ^FDx\\&"
    made = zpl_label(to(street1=hostile))
    content = made.content.decode()
    assert hostile in fields(made.content)
    assert content.count("^XZ") == 1 and "~" not in content
    assert zpl_text("a^b~c_d\\e").text == "a_5Eb_7Ec_5Fd_5Ce"


def test_other_scripts_are_spelled_for_the_printers_font():
    made = zpl_label(to(name="Щукина Ольга", street1="Αθήνα 7", street2="Łódzka 3"))
    assert {"Shchukina Olga", "Athina 7", "Łódzka 3"} <= set(fields(made.content))
    assert "Щ" in made.warning and "Ł" not in made.warning


def test_positions_lie_on_the_label():
    for x, y in re.findall(r"\^FO(\d+),(\d+)", zpl_label(to(name="x" * 200)).content.decode()):
        assert int(x) < 812 and int(y) < 1218


# --- text ------------------------------------------------------------------------------------------


def test_hostile_characters_are_removed():
    assert text.clean("a\u202eb\x00c\u200bd\r\n\te\ufeff") == "abcd e"
    assert text.clean("e\u0301") == "é"  # composed


def test_a_warning_names_the_first_dozen():
    assert text.warning(()) == ""
    assert text.warning(tuple("abcdefghijklmn")).endswith("l …")


hostile_text = st.text(max_size=60)


@settings(deadline=None, max_examples=12)
@given(hostile_text, hostile_text, hostile_text)
def test_any_text_gives_a_printable_label(name, street, city):
    data = to(name=name, street1=street, city=city)
    assert pdf_label(data).content.startswith(b"%PDF")
    content = zpl_label(data).content.decode("utf-8")
    assert content.count("^XA") == 1 and content.count("^XZ") == 1
    assert content.count("^FD") == content.count("^FS") - content.count("^GB")


@given(hostile_text)
def test_nothing_vanishes_unseen(value):
    printed = text.for_printer(value)
    cleaned = text.clean(value)
    assert bool(printed.text) == bool(cleaned)
    assert (printed.text == cleaned) or printed.replaced


# --- connector -------------------------------------------------------------------------------------

TARIFF = Tariff(
    service_from("ground", "Lading Ground", {"no_po_box": True, "transit_days": {"3": 2}}),
    (Card("USD", date(2026, 1, 1), {"3": (Break(2000, Decimal("7.40")),)}),),
)
CARRIER = TableRateConnector("Lading", [TARIFF])


def test_buying_gives_number_price_and_both_files():
    outcome = CARRIER.buy(REQUEST, key=KEY)
    assert isinstance(outcome, Bought)
    assert (outcome.tracking_number, outcome.cost, outcome.currency) == (
        tracking_number(KEY),
        Decimal("7.40"),
        "USD",
    )
    assert set(outcome.documents) == {"pdf", "zpl"}
    assert barcodes(outcome.documents["pdf"]) == [(outcome.tracking_number, "Code 128")]
    assert CARRIER.buy(REQUEST, key=KEY) == outcome


def test_what_has_no_rate_is_refused_with_the_reason():
    boxed = CARRIER.buy(replace(REQUEST, destination=replace(BUYER, street1="PO Box 1")), key=KEY)
    assert isinstance(boxed, Rejected)
    assert boxed.problem.message == "Lading Ground: does not deliver to post office boxes."
    unknown = CARRIER.buy(replace(REQUEST, service="air"), key=KEY)
    assert isinstance(unknown, Rejected) and unknown.problem.message == "Lading has no service 'air'."


def test_capabilities_tell_what_works():
    assert isinstance(CARRIER.resolve(key=KEY, reference="S-7-1-1"), NotFoundAtCarrier)
    assert CARRIER.void(tracking_number="x", carrier_ref="y") is None
    assert Capability.TRACK not in CARRIER.capabilities
    assert CARRIER.track(["x"])[0].problem.message == "This carrier does not offer tracking."
    assert CARRIER.validate_address(BUYER).verdict == "unknown"
