"""CSV that no spreadsheet executes, and reading what people upload: any encoding, any delimiter."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from oms.core.errors import UserError

#: first characters that make a spreadsheet compute; full-width forms count as well
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")


def _computes(text: str) -> bool:
    """True for text that a spreadsheet may take for a formula, whatever blanks or apostrophes stand before it."""
    bare = text.lstrip("'")
    return bare[:1] in _FORMULA and bool(bare) or bare.lstrip()[:1] in _FORMULA and bool(bare.lstrip())


def safe_cell(value: Any) -> Any:
    """The value as it may stand in a CSV or XLSX cell. Numbers stay numbers; dangerous text gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return value
    text = str(value).replace("\x00", "")
    return f"'{text}" if _computes(text) else text


def undo_cell(text: str) -> str:
    """What `safe_cell` was given: takes off exactly the apostrophe that it put on."""
    return text[1:] if text.startswith("'") and _computes(text) else text


class _Line:
    """csv.writer writes into this; the line is what it returns."""

    def write(self, text: str) -> str:
        return text


def stream_csv(header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> Iterator[str]:
    """A CSV file line by line, every cell safe: for a streaming answer of any length."""
    writer = csv.writer(_Line(), delimiter=delimiter, lineterminator="\r\n")
    yield writer.writerow([safe_cell(name) for name in header])
    for row in rows:
        yield writer.writerow([safe_cell(value) for value in row])


def decode_upload(data: bytes) -> str:
    """Text of an uploaded file: UTF-8 with or without BOM, UTF-16 with BOM, else Windows-1252.

    Raises `UserError` for a file that is no text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:  # no text has it, and UTF-32 begins like UTF-16
            raise UserError(
                "file: it begins like UTF-16 text but is not. Save it as CSV UTF-8.", field="file"
            )
        return text
    if b"\x00" in data:
        raise UserError("file: this is not a text file. Upload CSV or XLSX.", field="file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def sniff_delimiter(text: str) -> str:
    """The delimiter of the header line: comma, semicolon, tab or bar; quoted text does not count."""
    header: list[str] = []
    quoted = False
    for char in text[:20_000]:
        if char == '"':
            quoted = not quoted
        elif char in "\r\n" and not quoted:
            if header:
                break
        elif not quoted:
            header.append(char)
    best = max(",;\t|", key=header.count)
    return best if header.count(best) else ","
