"""Money, safe CSV, uploads: pure parts, mostly by property."""

from __future__ import annotations

import csv
import io
import zipfile
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from oms.core.csvsafe import decode_upload, safe_cell, sniff_delimiter, stream_csv, undo_cell
from oms.core.errors import UserError
from oms.core.money import Money, quantize, split_largest_remainder
from oms.core.uploads import MAX_BYTES, read_table

CURRENCY = st.sampled_from(["USD", "JPY", "KWD"])
AMOUNT = st.decimals(min_value=-1_000_000, max_value=1_000_000, places=4)


@given(
    AMOUNT, st.lists(st.decimals(min_value=0, max_value=10_000, places=3), min_size=1, max_size=30), CURRENCY
)
def test_parts_sum_to_the_total_and_none_is_off_by_more_than_a_coin(
    total: Decimal, weights: list[Decimal], currency: str
) -> None:
    parts = split_largest_remainder(total, weights, currency)
    coin = Decimal(1).scaleb(-{"USD": 2, "JPY": 0, "KWD": 3}[currency])
    whole = quantize(abs(total), currency).copy_sign(total)
    assert sum(parts) == whole
    even = weights if any(weights) else [Decimal(1)] * len(weights)
    for part, weight in zip(parts, even, strict=True):
        assert part == quantize(part, currency)
        assert abs(part - whole * weight / sum(even)) <= coin


def test_largest_remainder_by_hand() -> None:
    assert split_largest_remainder(Decimal("10.00"), [1, 1, 1], "USD") == [
        Decimal("3.34"),
        Decimal("3.33"),
        Decimal("3.33"),
    ]
    assert split_largest_remainder(Decimal("-10"), [1, 1, 1], "JPY") == [
        Decimal(-4),
        Decimal(-3),
        Decimal(-3),
    ]
    with pytest.raises(ValueError, match="negative"):
        split_largest_remainder(Decimal(1), [-1], "USD")
    with pytest.raises(ValueError, match="cannot add EUR to USD"):
        Money(Decimal(1), "USD") + Money(Decimal(1), "EUR")


DANGEROUS = [
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\t=1",
    "\r=1",
    " =1",
    "＝1",
    "＋1",
    "－1",
    "＠1",
    "'=1",
    "''@x",
    "\u00a0=1",
    "\n+1",
]


@pytest.mark.parametrize(
    ("count", "noun", "told"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (1200, "row", "1,200 rows"),
        (1, "entry is,entries are", "1 entry is"),
        (2, "entry is,entries are", "2 entries are"),
        (None, "row", "0 rows"),
    ],
)
def test_a_count_and_its_noun(count: int | None, noun: str, told: str) -> None:
    from django.template import Context, Template

    assert Template(f'{{{{ n|some:"{noun}" }}}}').render(Context({"n": count})) == told


@pytest.mark.parametrize("text", DANGEROUS)
def test_formulas_get_an_apostrophe_and_come_back(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    assert undo_cell(safe_cell(text)) == text


@given(st.text(st.characters(blacklist_characters="\x00", blacklist_categories=["Cs"])))
def test_no_cell_computes_and_every_cell_survives_the_round_trip(text: str) -> None:
    cell = safe_cell(text)
    assert cell.lstrip()[:1] not in set("=+-@＝＋－＠") or cell == ""
    assert undo_cell(cell) == text


@given(st.lists(st.text(st.sampled_from("=+-@'\",;\t ab\n"), max_size=6), min_size=1, max_size=5))
def test_csv_file_round_trip(cells: list[str]) -> None:
    text = "".join(stream_csv([f"c{n}" for n in range(len(cells))], [cells]))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [undo_cell(cell) for cell in rows[1]] == cells


def test_numbers_stay_numbers_and_words_stay_words() -> None:
    assert (safe_cell(-5), safe_cell(Decimal("-1.50")), safe_cell(None), safe_cell(True)) == (
        -5,
        Decimal("-1.50"),
        "",
        "true",
    )
    assert (safe_cell("O'Neil"), safe_cell("'quoted'"), undo_cell("'quoted'")) == (
        "O'Neil",
        "'quoted'",
        "'quoted'",
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("\ufeffsku,qty".encode(), "sku,qty"),
        ("größe".encode("utf-16"), "größe"),
        ("größe".encode("cp1252"), "größe"),
        ("größe €".encode(), "größe €"),
    ],
)
def test_any_encoding(data: bytes, text: str) -> None:
    assert decode_upload(data) == text


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1;2;3;4", ","),
        ("a;b", ";"),
        ("a\tb,c\td", "\t"),
        ('"a;b;c",d', ","),
        ("a|b", "|"),
        ("sku", ","),
        ("\n\na;b", ";"),
    ],
)
def test_delimiter_of_the_header_decides(text: str, delimiter: str) -> None:
    assert sniff_delimiter(text) == delimiter


def workbook(rows: list[list[object]]) -> bytes:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def test_csv_and_xlsx_give_the_same_table() -> None:
    for data, kind in (
        (b"\n sku ;qty\r\n00123;5\r\n'=x;1,5\r\n", "csv"),
        (workbook([[" sku ", "qty"], ["00123", 5.0], ["'=x", "1,5"]]), "xlsx"),
    ):
        table = read_table(data)
        assert (table.kind, table.header, list(table.rows)) == (
            kind,
            ["sku", "qty"],
            [["00123", "5"], ["=x", "1,5"]],
        )


def bomb(size: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<x/>")
        archive.writestr("xl/workbook.xml", b"0" * size)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"x" * (MAX_BYTES + 1), "at most 10 MB"),
        (b"a,b\x00c", "not a text file"),
        (b"\xd0\xcf\x11\xe0rest", "old Excel"),
        (bomb(30_000_000), "unpacks to far more"),
        (b"PK\x03\x04broken", "damaged"),
        (b"\n\n", "no rows"),
    ],
)
def test_what_an_upload_must_not_be(data: bytes, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_table(data)


def test_the_row_limit_holds_while_reading() -> None:
    table = read_table(b"sku\n" + b"x\n" * 100_001)
    with pytest.raises(UserError, match="more than 100,000 rows"):
        sum(1 for _ in table.rows)
    assert sum(1 for _ in read_table(b"sku\n" + b"x\n" * 100_000).rows) == 100_000


def test_an_archive_that_is_no_workbook() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match="no XLSX workbook"):
        read_table(out.getvalue())
