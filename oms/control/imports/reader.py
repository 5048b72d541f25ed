"""Read a CSV or TSV, plain or gzipped, as a stream: memory does not grow with the file. Workbooks within limits."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from oms.core.csvsafe import undo_cell
from oms.core.errors import UserError
from oms.core.uploads import MAX_COLUMNS, read_table

SAMPLE = 64 * 1024
#: a gzip bomb ends here
MAX_BYTES = 500 * 1024 * 1024
#: characters of one cell
MAX_FIELD = 1_000_000
#: empty lines in a row: a sheet has a million, more is no table
MAX_BLANK = 2_000_000


@dataclass(frozen=True)
class Row:
    """One data line: its number in the file (the header is 1), its cells by our names, and as the user wrote it."""

    number: int
    cells: dict[str, str]
    raw: dict[str, str]


@dataclass(frozen=True)
class Shape:
    """How the file is written."""

    encoding: str
    delimiter: str
    headers: tuple[str, ...]


class _Limited(io.RawIOBase):
    """Counts what is read and stops a file that unpacks without end."""

    def __init__(self, inner: IO[bytes]) -> None:
        self.inner = inner
        self.left = MAX_BYTES

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.inner.close()
        super().close()

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        try:
            data = self.inner.read(len(buffer))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(
                "file: it is gzipped, and damaged or cut; pack it anew, or bring it unpacked.", field="file"
            ) from error
        self.left -= len(data)
        if self.left < 0:
            raise UserError(
                f"file: larger than {MAX_BYTES // 2**20} MiB when unpacked; split it.", field="file"
            )
        buffer[: len(data)] = data
        return len(data)


def _binary(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    inner = cast(IO[bytes], gzip.open(path, "rb")) if zipped else path.open("rb")
    return cast(IO[bytes], io.BufferedReader(cast(Any, _Limited(inner))))


def digest(path: Path) -> str:
    """SHA-256 of the file as it lies there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_workbook(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def shape_of(path: Path) -> Shape:
    """Encoding (UTF-8 with or without BOM, else Windows-1252), delimiter and headers. Raises `UserError`."""
    if _is_workbook(path):
        return Shape("", "", tuple(header.strip() for header in read_table(path.read_bytes()).header))
    with _binary(path) as raw:
        sample = raw.read(SAMPLE)
    if not sample.strip():
        raise UserError("file: it is empty.", field="file")
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _shape("utf-16", sample[: len(sample) // 2 * 2].decode("utf-16", "replace"))
    if b"\x00" in sample:
        raise UserError("file: this is not a text file; save it as CSV (UTF-8).", field="file")
    try:
        text, encoding = sample.decode("utf-8-sig"), "utf-8-sig"
    except UnicodeDecodeError as error:
        if len(sample) - error.start < 4:  # a character cut by the sample's end
            text, encoding = sample[: error.start].decode("utf-8-sig"), "utf-8-sig"
        else:
            text, encoding = sample.decode("cp1252", "replace"), "cp1252"
    return _shape(encoding, text)


def _shape(encoding: str, text: str) -> Shape:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t|", key=first.count)
    csv.field_size_limit(MAX_FIELD)
    try:
        headers = next(csv.reader([first], delimiter=delimiter))
    except csv.Error as error:
        raise UserError(f"file: the first line cannot be read as CSV ({error}).", field="file") from error
    if len(headers) > MAX_COLUMNS:
        raise UserError(
            f"file: it has more than {MAX_COLUMNS} columns; leave out what is not needed.", field="file"
        )
    if len(headers) < 2:
        raise UserError(
            "file: the first line must hold the column names, separated by comma, semicolon or tab.",
            field="file",
        )
    return Shape(encoding, delimiter, tuple(header.strip() for header in headers))


def records(path: Path, shape: Shape | None = None) -> Iterator[tuple[int, list[str]]]:
    """Every data line in order: its number and its cells. A line of blanks is left out; short lines stay short.

    The apostrophe that our own exports put before what a spreadsheet would compute is taken off again.
    """
    shape = shape or shape_of(path)
    if not shape.encoding:
        for number, values in enumerate(read_table(path.read_bytes()).rows, start=2):
            if any(value.strip() for value in values):
                yield number, values
        return
    csv.field_size_limit(MAX_FIELD)
    with io.TextIOWrapper(_binary(path), encoding=shape.encoding, errors="replace", newline="") as text:
        reader = csv.reader(text, delimiter=shape.delimiter)
        blank = 0
        try:
            next(reader, None)
            for values in reader:
                joined = "".join(values)
                if not joined or joined.isspace():
                    blank += 1
                    if blank > MAX_BLANK:
                        raise UserError(
                            f"file: more than {MAX_BLANK:,} empty lines before line {reader.line_num}; save it anew.",
                            field="file",
                        )
                    continue
                blank = 0
                if "\0" in joined:
                    raise UserError(
                        f"file: line {reader.line_num} holds a NUL character, so this is not a text file; save it as "
                        "CSV (UTF-8).",
                        field="file",
                    )
                yield reader.line_num, [undo_cell(value) for value in values] if "'" in joined else values
        except csv.Error as error:
            raise UserError(
                f"file: line {reader.line_num} cannot be read as CSV ({error}).", field="file"
            ) from error


def raw_cells(headers: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """A line as the user wrote it, by the file's own headers; missing cells are empty."""
    return dict(zip(headers, [*values, *[""] * (len(headers) - len(values))], strict=False))


def rows(path: Path, shape: Shape | None = None, names: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Every data line with its cells by name. `names`: the file's header of each of our names, where it differs."""
    shape = shape or shape_of(path)
    for number, values in records(path, shape):
        raw = raw_cells(shape.headers, values)
        cells = {**raw, **{ours: raw[header] for ours, header in names.items()}} if names else raw
        yield Row(number, cells, raw)
