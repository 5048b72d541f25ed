"""What an order must look like before it may touch the database (pure).

Text from channels is hostile: NFC, no control or bidi characters, cut to its column. Numbers are
checked, never repaired by guessing.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from dataclasses import fields, replace
from decimal import ROUND_HALF_UP, Decimal

from oms.core.errors import UserError
from oms.orders.drafts import ZERO, ChargeDraft, ContactDraft, LineDraft, OrderDraft

MAX_LINES = 2000
MAX_QUANTITY = 1_000_000
MAX_TAGS = 50
_MAX_MONEY = Decimal(10) ** 10
#: days are counted on from an order's times and shown in every zone: the ends of the calendar leave no room for that
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_FOUR = Decimal("0.0001")

#: ISO 4217 active codes
CURRENCIES = frozenset(
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF "
    "CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG "
    "HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA "
    "MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD "
    "RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX "
    "USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG".split()
)

#: ISO 3166-1 alpha-2
COUNTRIES = frozenset(
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA "
    "CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA "
    "GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP "
    "KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS "
    "MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS "
    "RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW "
    "TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW".split()
)

_STATUSES = frozenset({"pending", "open", "shipped", "delivered", "cancelled"})
#: every character that could move, hide or reorder what a person reads, but not the joiners of emoji and scripts
_BIDI = dict.fromkeys(
    [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, 0x2028, 0x2029]
)
_PLAIN = re.compile(r"[ -~]*\Z")


def clean(text: str, limit: int, *, lines: bool = False) -> str:
    """NFC text without control characters, bidi controls and lone surrogates, cut to `limit` characters.

    `lines` keeps line feeds and tabs, for notes.
    """
    if not _PLAIN.match(text):
        text = unicodedata.normalize("NFC", text.translate(_BIDI))
        keep = "\n\t" if lines else ""
        kinds = ((char, "" if char in keep else unicodedata.category(char)) for char in text)
        text = "".join(" " if kind == "Cc" else char for char, kind in kinds if kind != "Cs")
    return text.strip()[:limit].rstrip()


def _identity(value: str, limit: int, what: str) -> str:
    """An id is compared, so it is refused when too long, never cut."""
    cleaned = clean(value, limit + 1)
    if not cleaned:
        raise UserError(f"{what}: is empty; every order and line needs the channel's id.", field=what)
    if len(cleaned) > limit:
        raise UserError(f"{what}: '{cleaned[:30]}…' is longer than {limit} characters.", field=what)
    return cleaned


def _money(value: Decimal, what: str) -> Decimal:
    if not isinstance(value, Decimal) or not value.is_finite():
        raise UserError(f"{what}: '{value}' is not an amount of money.", field=what)
    if abs(value) >= _MAX_MONEY:
        raise UserError(f"{what}: {value} is too large; at most 10 digits before the point.", field=what)
    return value.quantize(_FOUR, ROUND_HALF_UP)


def _units(value: int, what: str, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{what}: '{value}' is not a whole number of units.", field="quantity")
    if value < least:
        raise UserError(
            f"{what}: {value} is not possible; use a whole number of at least {least}.", field="quantity"
        )
    if value > MAX_QUANTITY:
        raise UserError(f"{what}: {value} is more than {MAX_QUANTITY:,} units.", field="quantity")
    return value


def _time(value: dt.datetime | None, what: str) -> dt.datetime | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise UserError(
            f"{what}: has no time zone; send it with an offset, for example 2026-11-23T14:00:00Z.", field=what
        )
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise UserError(
            f"{what}: the year {value.year} is not between {_FIRST_YEAR} and {_LAST_YEAR}.", field=what
        )
    return value.astimezone(dt.UTC)


def _charge(charge: ChargeDraft) -> ChargeDraft:
    if charge.kind not in ("tax", "shipping", "discount", "channel_fee"):
        raise UserError(
            f"charges: '{charge.kind}' is not tax, shipping, discount or channel_fee.", field="charges"
        )
    return ChargeDraft(charge.kind, _money(charge.amount, "charges"), clean(charge.title, 120))


def _line(line: LineDraft, number: int, *, tax_included: bool) -> LineDraft:
    where = f"lines[{number}]"
    quantity = _units(line.quantity, f"{where}.quantity", least=1)
    _units(line.pack_size, f"{where}.pack_size", least=1)
    cancelled = _units(line.cancelled, f"{where}.cancelled", least=0)
    shipped = _units(line.shipped, f"{where}.shipped", least=0)
    if cancelled + shipped > quantity:
        raise UserError(
            f"{where}: {shipped} shipped and {cancelled} cancelled are more than the {quantity} ordered.",
            field="quantity",
        )
    if line.kind not in ("product", "service"):
        raise UserError(f"{where}.kind: '{line.kind}' is not product or service.", field="kind")
    unit_price = _money(line.unit_price, f"{where}.unit_price")
    discount = _money(line.discount, f"{where}.discount")
    tax = _money(line.tax, f"{where}.tax")
    if tax_included:
        unit_price = ((unit_price * quantity - tax) / quantity).quantize(_FOUR, ROUND_HALF_UP)
    return replace(
        line,
        external_id=_identity(line.external_id, 80, f"{where}.external_id"),
        quantity=quantity,
        cancelled=cancelled,
        shipped=shipped,
        external_sku=clean(line.external_sku, 120),
        listing_ref=clean(line.listing_ref, 120),
        title=clean(line.title, 255),
        unit_price=unit_price,
        discount=discount,
        tax=tax,
        charges=tuple(_charge(charge) for charge in line.charges),
    )


def clean_contact(contact: ContactDraft) -> ContactDraft:
    """Buyer data as it may be stored: clean text, an upper-case country. Raises `UserError`."""
    texts = {
        field.name: clean(
            getattr(contact, field.name) or "",
            2000 if field.name == "note" else 200,
            lines=field.name == "note",
        )
        for field in fields(ContactDraft)
        if field.name != "residential"
    }
    texts["country"] = texts["country"].upper()
    if texts["country"] and not re.fullmatch(r"[A-Z]{2}", texts["country"]):
        raise UserError(
            f"contact.country: '{texts['country'][:20]}' is not a two-letter ISO 3166 code such as US.",
            field="country",
        )
    return ContactDraft(**texts, residential=bool(contact.residential))


def normalise(draft: OrderDraft) -> OrderDraft:
    """The draft with clean text, UTC times and net prices.

    Raises `UserError` naming the field when the order cannot be stored as it is.
    """
    if not draft.lines:
        raise UserError("lines: an order needs at least one line.", field="lines")
    if len(draft.lines) > MAX_LINES:
        raise UserError(
            f"lines: {len(draft.lines)} lines; an order may have at most {MAX_LINES:,}.", field="lines"
        )
    if draft.currency not in CURRENCIES:
        raise UserError(
            f"currency: '{draft.currency}' is not an ISO 4217 code such as USD.", field="currency"
        )
    for name, known in (
        ("status", _STATUSES),
        ("kind", {"sale", "replacement", "exchange", "wholesale"}),
        ("fulfilled_by", {"us", "channel"}),
        ("risk", {"low", "medium", "high"}),
    ):
        if getattr(draft, name) not in known:
            raise UserError(
                f"{name}: '{getattr(draft, name)}' is unknown; use one of {', '.join(sorted(known))}.",
                field=name,
            )
    lines = tuple(
        _line(line, number, tax_included=draft.tax_included) for number, line in enumerate(draft.lines, 1)
    )
    ids = [line.external_id for line in lines]
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise UserError(f"lines: the line id '{twice}' appears twice.", field="lines")
    placed_at = _time(draft.placed_at, "placed_at")
    updated_at = _time(draft.channel_updated_at, "channel_updated_at")
    assert placed_at is not None and updated_at is not None
    discount, shipping, tax = (
        _money(draft.discount, "discount"),
        _money(draft.shipping, "shipping"),
        _money(draft.tax, "tax"),
    )
    if draft.tax_included:
        shipping -= tax - sum((line.tax for line in lines), ZERO)
    subtotal = sum((line.unit_price * line.quantity for line in lines), ZERO)
    if draft.subtotal is not None and not draft.tax_included:
        subtotal = _money(draft.subtotal, "subtotal")
    subtotal = _money(subtotal, "subtotal")
    total = subtotal + shipping + tax - discount if draft.total is None else _money(draft.total, "total")
    tags: dict[str, None] = {}
    for tag in draft.tags:
        if cleaned := clean(tag, 40):
            tags[cleaned] = None
    return replace(
        draft,
        external_id=_identity(draft.external_id, 80, "external_id"),
        external_number=clean(draft.external_number, 80),
        placed_at=placed_at,
        channel_updated_at=updated_at,
        ship_by=_time(draft.ship_by, "ship_by"),
        deliver_by=_time(draft.deliver_by, "deliver_by"),
        service_level=clean(draft.service_level, 60),
        payment_state=clean(draft.payment_state, 20) or "paid",
        cancel_reason=clean(draft.cancel_reason, 60),
        lines=lines,
        contact=None if draft.contact is None else clean_contact(draft.contact),
        subtotal=subtotal,
        discount=discount,
        shipping=shipping,
        tax=tax,
        total=total,
        tax_included=False,
        charges=tuple(_charge(charge) for charge in draft.charges),
        tags=tuple(tags)[:MAX_TAGS],
    )


def money_gap(draft: OrderDraft) -> Decimal:
    """Total minus (lines + shipping + tax − discount) where it is more than 0.01 per line, else 0."""
    assert draft.subtotal is not None and draft.total is not None
    gap = draft.total - (draft.subtotal + draft.shipping + draft.tax - draft.discount)
    return gap if abs(gap) > Decimal("0.01") * len(draft.lines) else ZERO


def short_name(name: str) -> str:
    """'Ana Maria Ruiz' becomes 'A. Ruiz': enough for a list, less than the whole name."""
    words = name.split()
    if len(words) < 2:
        return name[:120]
    return f"{words[0][0]}. {words[-1]}"[:120]
