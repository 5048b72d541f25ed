"""Uploaded tables: CSV and XLSX told apart by content, with limits that hold while reading."""

from __future__ import annotations

import csv
import datetime as dt
import io
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from oms.core.csvsafe import decode_upload, sniff_delimiter, undo_cell
from oms.core.errors import UserError

MAX_BYTES = 10 * 1024 * 1024
MAX_ROWS = 100_000
MAX_COLUMNS = 300
MAX_CELL = 32_768
XLSX_MAX_UNPACKED = 100 * 1024 * 1024
XLSX_MAX_MEMBERS = 200
XLSX_MAX_RATIO = 100
_SECONDS = 45.0


@dataclass(frozen=True)
class Table:
    """A header and its rows, as text. Rows are read while they are iterated: once."""

    kind: str  # csv or xlsx
    delimiter: str
    header: list[str]
    rows: Iterator[list[str]]


def _wrong(sentence: str) -> UserError:
    return UserError(f"file: {sentence}", field="file")


def read_table(data: bytes) -> Table:
    """Open an uploaded file. Raises `UserError` naming what is wrong, here or while rows are read."""
    if not data:
        raise _wrong("it is empty.")
    if len(data) > MAX_BYTES:
        raise _wrong(
            f"it has {len(data) / 1e6:.1f} MB; at most {MAX_BYTES // 1024 // 1024} MB are allowed. Split it."
        )
    if data.startswith(b"PK\x03\x04"):
        kind, delimiter, rows = "xlsx", "", _xlsx(data)
    elif data.startswith((b"\xd0\xcf\x11\xe0", b"%PDF")):
        raise _wrong("this is an old Excel or PDF file. Save it as CSV or XLSX.")
    else:
        text = decode_upload(data)
        kind, delimiter = "csv", sniff_delimiter(text)
        rows = _csv(text, delimiter)
    limited = _limited(rows)
    for row in limited:
        if any(row):
            header = [cell.strip() for cell in row]
            while header and not header[-1]:
                header.pop()
            return Table(kind, delimiter, header, limited)
    raise _wrong("it has no rows.")


def _limited(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    until = time.monotonic() + _SECONDS
    for number, row in enumerate(rows):
        if number > MAX_ROWS:
            raise _wrong(f"it has more than {MAX_ROWS:,} rows. Split it.")
        if len(row) > MAX_COLUMNS:
            raise _wrong(f"row {number + 1} has more than {MAX_COLUMNS} columns.")
        if number % 1000 == 0 and time.monotonic() > until:
            raise _wrong("reading it takes too long. Save it as CSV.")
        yield row


def _csv(text: str, delimiter: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _wrong(f"line {reader.line_num} cannot be read: {error}.") from error
        yield [undo_cell(cell) for cell in row]


def _xlsx(data: bytes) -> Iterator[list[str]]:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise _wrong("it looks like XLSX but is damaged.") from error
    names = {member.filename for member in members}
    if "[Content_Types].xml" not in names or not any(name.startswith("xl/") for name in names):
        raise _wrong("this archive is no XLSX workbook.")
    # zipfile never unpacks more than a member's stated size, so the stated sizes bound the memory
    unpacked = sum(member.file_size for member in members)
    if (
        len(members) > XLSX_MAX_MEMBERS
        or unpacked > XLSX_MAX_UNPACKED
        or unpacked > XLSX_MAX_RATIO * len(data)
    ):
        raise _wrong("it unpacks to far more than its size. Save it as CSV.")
    return _sheet(data)


def _sheet(data: bytes) -> Iterator[list[str]]:
    from openpyxl import load_workbook

    try:
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
        for row in book.worksheets[0].iter_rows(values_only=True):
            yield [undo_cell(_text(value)) for value in row]
    except UserError:
        raise
    except Exception as error:  # openpyxl raises whatever the damage happens to cause
        raise _wrong("the workbook cannot be read. Save it as CSV.") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, dt.datetime) and value.time() == dt.time(0):
        return value.date().isoformat()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return str(value)[:MAX_CELL]
