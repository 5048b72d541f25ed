"""Text for paper: hostile characters out, nothing that a person needs may vanish unseen.

Names and addresses come from shoppers of all countries. What a font or a printer cannot draw is
transliterated, else shown as "?", and the caller gets the list to warn with.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR, BOLD = "DejaVu", "DejaVu-Bold"
_FONTS = Path(__file__).parent / "fonts"

_CYRILLIC = dict(
    pair.split("=")
    for pair in (
        "а=a б=b в=v г=g д=d е=e ж=zh з=z и=i й=y к=k л=l м=m н=n о=o п=p р=r с=s т=t у=u ф=f х=kh ц=ts ч=ch ш=sh "
        "щ=shch ъ= ы=y ь= э=e ю=yu я=ya ё=yo і=i ї=yi є=ye ґ=g ў=u ђ=dj ј=j љ=lj њ=nj ћ=c џ=dz ѓ=g ѕ=dz ќ=k"
    ).split(" ")
)
_GREEK = dict(
    pair.split("=")
    for pair in (
        "α=a β=v γ=g δ=d ε=e ζ=z η=i θ=th ι=i κ=k λ=l μ=m ν=n ξ=x ο=o π=p ρ=r σ=s ς=s τ=t υ=y φ=f χ=ch ψ=ps ω=o"
    ).split(" ")
)
_LETTERS = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ð": "d", "Ð": "D", "þ": "th",
    "Þ": "Th", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "ŋ": "n", "Ŋ": "N", "ħ": "h", "Ħ": "H", "‘": "'", 
    "’": "'",
    "‚": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-", "‐": "-", "‑": "-", "…": "...", "№": "No", "€": "EUR",
    "ー": "-", "、": ",", "。": ".", "−": "-", "⁄": "/",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Printed:
    """Text that can be drawn, and the characters that had to be replaced."""

    text: str
    replaced: tuple[str, ...] = ()


def clean(text: str) -> str:
    """NFC text on one line: control, bidi, zero-width and unassigned characters out, spaces collapsed."""
    kept = []
    for char in unicodedata.normalize("NFC", text):
        if char.isspace():
            kept.append(" ")
        elif unicodedata.category(char)[0] != "C":
            kept.append(char)
    return " ".join("".join(kept).split())


def _spelled(char: str) -> str | None:
    """A character in Latin letters; None when there is no simple way."""
    lower = char.lower()
    for table in (_CYRILLIC, _GREEK):
        if lower in table:
            return table[lower] if char == lower else table[lower].capitalize()
    if char in _LETTERS:
        return _LETTERS[char]
    name = unicodedata.name(char, "")
    for script in ("HIRAGANA LETTER ", "KATAKANA LETTER ", "HANGUL SYLLABLE "):
        if name.startswith(script):
            return name.removeprefix(script).removeprefix("SMALL ").lower()
    plain = "".join(c for c in unicodedata.normalize("NFKD", char) if not unicodedata.combining(c))
    if plain and plain != char:
        parts = [c if c.isascii() else _spelled(c) for c in plain]
        return None if None in parts else "".join(part for part in parts if part is not None)
    return None


def _replace(text: str, drawable: frozenset[int]) -> Printed:
    out, replaced = [], []
    for char in clean(text):
        if ord(char) in drawable:
            out.append(char)
            continue
        replaced.append(char)
        spelled = _spelled(char)
        out.append(spelled if spelled is not None and all(ord(c) in drawable for c in spelled) else "?")
    return Printed("".join(out), tuple(dict.fromkeys(replaced)))


@cache
def _font_characters() -> frozenset[int]:
    register_fonts()
    faces = (pdfmetrics.getFont(name).face for name in (REGULAR, BOLD))
    return frozenset.intersection(*(frozenset(face.charToGlyph) for face in faces))


#: what printers surely draw with their built-in scalable font: Latin-1 and Latin Extended-A
_PRINTER_CHARACTERS = frozenset([*range(0x20, 0x7F), *range(0xA1, 0x180)]) - {0xAD}


def for_paper(text: str) -> Printed:
    """Text for PDF documents: everything the embedded font has is kept as it is."""
    return _replace(text, _font_characters())


def for_printer(text: str) -> Printed:
    """Text for label printers' own font: Latin letters with their accents, other scripts spelled."""
    return _replace(text, _PRINTER_CHARACTERS)


def warning(replaced: tuple[str, ...]) -> str:
    """The sentence for the label's warning; empty when nothing was replaced."""
    if not replaced:
        return ""
    shown = " ".join(replaced[:12]) + (" …" if len(replaced) > 12 else "")
    return f"Some characters cannot be printed and were spelled or replaced: {shown}"


@cache
def register_fonts() -> None:
    """Make the embedded Unicode fonts known to reportlab, once per process."""
    pdfmetrics.registerFont(TTFont(REGULAR, _FONTS / "DejaVuSans.ttf"))
    pdfmetrics.registerFont(TTFont(BOLD, _FONTS / "DejaVuSans-Bold.ttf"))
    pdfmetrics.registerFontFamily(REGULAR, normal=REGULAR, bold=BOLD, italic=REGULAR, boldItalic=BOLD)


def fit(text: str, font: str, size: float, width: float, *, least: float = 6.0) -> tuple[str, float]:
    """The text and size that fit `width` points: smaller down to `least`, then cut with an ellipsis."""
    while size > least and pdfmetrics.stringWidth(text, font, size) > width:
        size -= 0.5
    if pdfmetrics.stringWidth(text, font, size) <= width:
        return text, size
    while text and pdfmetrics.stringWidth(text + "…", font, size) > width:
        text = text[:-1]
    return text.rstrip() + "…", size
