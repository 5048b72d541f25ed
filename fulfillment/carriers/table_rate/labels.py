"""Labels of the table-rate carrier: own tracking numbers, 4 × 6 inch PDF, native ZPL. No network, no database.

A label is a pure function of its data: the same purchase gives the same number and the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from uuid import UUID

from reportlab.graphics.barcode.code128 import Code128
from reportlab.lib.units import inch
from reportlab.pdfgen.canvas import Canvas
from stdnum import damm

from fulfillment.carriers.base import AddressSpec, BuyRequest
from fulfillment.carriers.units import weight_in
from fulfillment.documents import text

PREFIX = "LD"
_DIGITS = 17

PAGE = (4 * inch, 6 * inch)
_MARGIN = 12.0
#: dots per inch and label size of the usual thermal printer
_DPI = 203
_DOTS = (4 * _DPI, 6 * _DPI)


@dataclass(frozen=True, slots=True)
class LabelData:
    """What is on the label beside the request itself."""

    request: BuyRequest
    tracking_number: str
    service_name: str
    carrier_name: str


@dataclass(frozen=True, slots=True)
class LabelFile:
    """The file and a warning when characters of the address could not be printed as they are."""

    content: bytes
    warning: str = ""


def tracking_number(key: str) -> str:
    """LD, 17 digits of the purchase key (a UUID as text) and a Damm check digit: "LD" + 18 digits.

    The same key always gives the same number. Raises ValueError when the key is no UUID.
    """
    digits = f"{UUID(key).int % 10**_DIGITS:0{_DIGITS}d}"
    return f"{PREFIX}{digits}{damm.calc_check_digit(digits)}"


def is_tracking_number(number: str) -> bool:
    """Whether the number is one of ours and typed without mistake (one wrong digit or two swapped are found)."""
    compact = number.replace(" ", "").upper()
    digits = compact.removeprefix(PREFIX)
    well_formed = (
        compact.startswith(PREFIX) and len(digits) == _DIGITS + 1 and digits.isascii() and digits.isdigit()
    )
    return well_formed and damm.is_valid(digits)


def spaced(number: str) -> str:
    """The number in groups that people can read: LD 123456 789012 345678."""
    body = number.removeprefix(PREFIX)
    return " ".join([PREFIX, *(body[start : start + 6] for start in range(0, len(body), 6))])


def _lines(address: AddressSpec, home_country: str) -> list[str]:
    lines = address.lines()
    return lines if address.country == home_country else [*lines, address.country]


def _facts(data: LabelData) -> list[str]:
    """The small print: parcel, weight, reference, date."""
    request = data.request
    return [
        f"Parcel {request.parcel_number} of {request.parcel_count}",
        f"{weight_in(request.parcel.weight_g, 'kg', 2)} kg / {weight_in(request.parcel.weight_g, 'lb', 2)} lb",
        f"{request.ship_date:%d %b %Y}",
        f"Ref {request.reference}",
        *([f"Order {request.order_number}"] if request.order_number else []),
    ]


# --- PDF -------------------------------------------------------------------------------------------


def pdf_label(data: LabelData) -> LabelFile:
    """One 4 × 6 inch page."""
    return pdf_labels([data])


def pdf_labels(labels: Sequence[LabelData]) -> LabelFile:
    """One PDF with a page per label, in the given order."""
    text.register_fonts()
    buffer = BytesIO()
    canvas = Canvas(buffer, pagesize=PAGE, invariant=1)
    canvas.setTitle(labels[0].tracking_number if len(labels) == 1 else f"{len(labels)} labels")
    replaced: list[str] = []
    for data in labels:
        replaced += _draw(canvas, data)
        canvas.showPage()
    canvas.save()
    return LabelFile(buffer.getvalue(), text.warning(tuple(dict.fromkeys(replaced))))


def _draw(canvas: Canvas, data: LabelData) -> list[str]:
    width, height = PAGE
    inner = width - 2 * _MARGIN
    replaced: list[str] = []

    def write(line: str, x: float, y: float, size: float, *, bold: bool = False, room: float = inner) -> None:
        printed = text.for_paper(line)
        replaced.extend(printed.replaced)
        font = text.BOLD if bold else text.REGULAR
        shown, fitted = text.fit(printed.text, font, size, room)
        canvas.setFont(font, fitted)
        canvas.drawString(x, y, shown)

    def rule(y: float) -> None:
        canvas.setLineWidth(1.2)
        canvas.line(_MARGIN, y, width - _MARGIN, y)

    request = data.request
    top = height - _MARGIN - 18
    write(data.carrier_name, _MARGIN, top, 18, bold=True, room=inner * 0.45)
    write(data.service_name, _MARGIN + inner * 0.5, top, 14, bold=True, room=inner * 0.5)
    rule(top - 8)
    y = top - 20
    for line in _lines(request.origin, request.destination.country):
        write(line, _MARGIN, y, 8, room=inner * 0.6)
        y -= 10
    fact_y = top - 20
    for line in _facts(data):
        write(line, _MARGIN + inner * 0.63, fact_y, 8, room=inner * 0.37)
        fact_y -= 10
    y = min(y, fact_y) - 2
    rule(y)
    y -= 12
    write("RETURN TO" if request.is_return else "SHIP TO", _MARGIN, y, 8)
    y -= 16
    for line in _lines(request.destination, request.origin.country):
        write(line, _MARGIN + 8, y, 14, bold=True, room=inner - 8)
        y -= 17
    bars = 1.1 * inch
    bottom = _MARGIN + 18
    rule(bottom + bars + 12)
    barcode = Code128(data.tracking_number, barHeight=bars, barWidth=1.35, quiet=False)
    barcode.drawOn(canvas, (width - barcode.width) / 2, bottom)
    label = spaced(data.tracking_number)
    canvas.setFont(text.BOLD, 10)
    canvas.drawCentredString(width / 2, _MARGIN + 4, label)
    return replaced


# --- ZPL -------------------------------------------------------------------------------------------


def zpl_text(value: str) -> text.Printed:
    """A field's data for ^FH^FD: command characters as hexadecimal, everything else as UTF-8."""
    printed = text.for_printer(value)
    escaped = "".join(f"_{ord(char):02X}" if char in "^~_\\" else char for char in printed.text)
    return text.Printed(escaped, printed.replaced)


def _cut(value: str, size: int, room: int) -> str:
    """As many characters as surely fit; the built-in font is about 0.6 of its height wide."""
    most = int(room / (size * 0.6))
    return value if len(value) <= most else value[: most - 3].rstrip() + "..."


def zpl_label(data: LabelData) -> LabelFile:
    """The label for thermal printers: 4 × 6 inch at 203 dpi, UTF-8 (^CI28), no graphics."""
    width, height = _DOTS
    margin, inner = 30, _DOTS[0] - 60
    replaced: list[str] = []
    out = ["^XA", "^CI28", f"^PW{width}", f"^LL{height}", "^LH0,0"]

    def write(line: str, x: int, y: int, size: int, room: int) -> None:
        clean = text.clean(line)
        if len(_cut(clean, size, room)) < len(clean):
            size = size * 7 // 10
        printed = zpl_text(_cut(clean, size, room))
        replaced.extend(printed.replaced)
        out.append(f"^FO{x},{y}^A0N,{size},{size}^FH^FD{printed.text}^FS")

    def rule(y: int) -> None:
        out.append(f"^FO{margin},{y}^GB{inner},3,3^FS")

    request = data.request
    write(data.carrier_name, margin, 30, 46, inner // 2)
    write(data.service_name, margin + inner // 2, 36, 36, inner // 2)
    rule(90)
    y = 104
    for line in _lines(request.origin, request.destination.country):
        write(line, margin, y, 24, inner * 6 // 10)
        y += 28
    fact_y = 104
    for line in _facts(data):
        write(line, margin + inner * 63 // 100, fact_y, 24, inner * 37 // 100)
        fact_y += 28
    y = max(y, fact_y) + 6
    rule(y)
    write("RETURN TO" if request.is_return else "SHIP TO", margin, y + 14, 24, inner)
    y += 50
    for line in _lines(request.destination, request.origin.country):
        write(line, margin + 20, y, 42, inner - 20)
        y += 48
    rule(height - 330)
    out.append(f"^FO{margin + 90},{height - 310}^BY3,3,220^BCN,220,N,N,N,A^FD{data.tracking_number}^FS")
    write(spaced(data.tracking_number), margin + 130, height - 60, 34, inner)
    out.append("^XZ")
    return LabelFile(("\n".join(out) + "\n").encode("utf-8"), text.warning(tuple(dict.fromkeys(replaced))))
