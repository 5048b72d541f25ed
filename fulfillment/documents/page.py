"""Common shape of printed documents: page, type, tables, barcode. Text from outside is escaped here, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

from reportlab.graphics.barcode.code128 import Code128
from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Frame,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from fulfillment.documents import text
from oms.core.money import quantize

_MARGIN = 15 * mm
_GREY = colors.HexColor("#d0d0d0")
#: countries that print on Letter paper
_LETTER_COUNTRIES = ("US", "CA", "MX", "PH", "CL", "CO")


@dataclass(frozen=True, slots=True)
class Document:
    """A finished PDF and a warning when characters could not be printed as they are."""

    content: bytes
    warning: str = ""


def page_size(country: str) -> tuple[float, float]:
    """Letter for the countries that use it, else A4, in points."""
    size: tuple[float, float] = LETTER if country in _LETTER_COUNTRIES else A4
    return size


def money(amount: Decimal, currency: str) -> str:
    """1,234.50 USD, rounded to the currency's coin."""
    return f"{quantize(amount, currency):,} {currency}"


def _style(name: str, size: float, *, bold: bool = False, right: bool = False) -> ParagraphStyle:
    return ParagraphStyle(
        name,
        fontName=text.BOLD if bold else text.REGULAR,
        fontSize=size,
        leading=size * 1.25,
        alignment=TA_RIGHT if right else 0,
        splitLongWords=1,
    )


class Sheet:
    """Collects the content of one PDF, page after page, and the characters that had to be replaced."""

    def __init__(self, title: str, *, country: str = "US") -> None:
        text.register_fonts()
        self.title = title
        self.size = page_size(country)
        self.width = self.size[0] - 2 * _MARGIN
        self.replaced: list[str] = []
        self.story: list[Any] = []
        self._styles = {
            "title": _style("title", 18, bold=True),
            "heading": _style("heading", 11, bold=True),
            "body": _style("body", 9),
            "bold": _style("bold", 9, bold=True),
            "right": _style("right", 9, right=True),
            "right_bold": _style("right_bold", 9, bold=True, right=True),
            "small": _style("small", 7.5),
        }

    def cell(self, value: str, style: str = "body") -> Paragraph:
        """A paragraph of plain text; line breaks stay, markup in it is shown and never obeyed."""
        lines = []
        for line in value.split("\n"):
            printed = text.for_paper(line)
            self.replaced += printed.replaced
            lines.append(escape(printed.text))
        return Paragraph("<br/>".join(lines), self._styles[style])

    def add(self, value: str, style: str = "body") -> None:
        self.story.append(self.cell(value, style))

    def gap(self, millimetres: float = 4) -> None:
        self.story.append(Spacer(1, millimetres * mm))

    def next_page(self) -> None:
        self.story.append(PageBreak())

    def head(self, title: str, barcode: str = "") -> None:
        """The document's title on the left, its number as Code 128 on the right."""
        right: Any = ""
        if barcode:
            right = Code128(barcode, barHeight=11 * mm, barWidth=0.9, humanReadable=True, quiet=False)
            right.fontName, right.fontSize, right.hAlign = text.REGULAR, 8, "RIGHT"
        bars = right.width + 2 if barcode else 0
        table = Table([[self.cell(title, "title"), right]], colWidths=[self.width - bars, bars])
        table.setStyle(
            TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
        )
        self.story += [table, Spacer(1, 6 * mm)]

    def columns(self, *blocks: tuple[str, str]) -> None:
        """Headed blocks of text side by side."""
        cells = [[self.cell(heading, "small"), self.cell(body)] for heading, body in blocks]
        table = Table([cells], colWidths=[self.width / len(blocks)] * len(blocks))
        table.setStyle(
            TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
        )
        self.story += [table, Spacer(1, 4 * mm)]

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        widths: Sequence[float],
        *,
        right: Sequence[int] = (),
        total: Sequence[str] | None = None,
    ) -> None:
        """A ruled table whose header repeats on each page. `widths` are shares; `right` are number columns."""
        whole = sum(widths)
        body = [[self.cell(name, "right_bold" if i in right else "bold") for i, name in enumerate(header)]]
        body += [
            [self.cell(value, "right" if i in right else "body") for i, value in enumerate(row)]
            for row in rows
        ]
        if total is not None:
            body.append(
                [self.cell(value, "right_bold" if i in right else "bold") for i, value in enumerate(total)]
            )
        table = Table(body, colWidths=[self.width * share / whole for share in widths], repeatRows=1)
        rules: list[Any] = [
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, colors.black),
            ("LINEBELOW", (0, 1), (-1, -1), 0.3, _GREY),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("TOPPADDING", (0, 0), (-1, -1), 2),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        ]
        if total is not None:
            rules.append(("LINEABOVE", (0, -1), (-1, -1), 0.8, colors.black))
        table.setStyle(TableStyle(rules))
        self.story += [table, Spacer(1, 4 * mm)]

    def _footer(self, canvas: Canvas, _: BaseDocTemplate) -> None:
        canvas.setFont(text.REGULAR, 7.5)
        canvas.drawString(_MARGIN, 8 * mm, text.for_paper(self.title).text)
        canvas.drawRightString(self.size[0] - _MARGIN, 8 * mm, f"Page {canvas.getPageNumber()}")

    def build(self) -> Document:
        """The PDF. The same content gives the same bytes."""
        buffer = BytesIO()
        template = BaseDocTemplate(
            buffer, pagesize=self.size, title=self.title, leftMargin=_MARGIN, rightMargin=_MARGIN, topMargin=_MARGIN,
            bottomMargin=_MARGIN, invariant=1,
        )  # fmt: skip
        frame = Frame(_MARGIN, _MARGIN, self.width, self.size[1] - 2 * _MARGIN, 0, 0, 0, 0)
        template.addPageTemplates(PageTemplate(frames=[frame], onPage=self._footer))
        template.build(self.story)
        return Document(buffer.getvalue(), text.warning(tuple(dict.fromkeys(self.replaced))))
