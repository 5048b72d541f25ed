"""The tags every screen uses: icons, figures, times, states, addresses and charts. Loaded as a builtin.

templates/ui/README.md shows each with an example.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import lucide
from django import template
from django.http import QueryDict
from django.urls import NoReverseMatch, resolve, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from oms.core import charts, clock
from oms.core.money import minor_digits
from oms.core.words import some

register = template.Library()

#: state word → (tone, icon). A screen may name another tone; the word itself is always shown.
STATES: dict[str, tuple[str, str]] = {
    "ok": ("ok", "circle-check"),
    "info": ("info", "circle-dot"),
    "warn": ("warn", "triangle-alert"),
    "bad": ("bad", "octagon-alert"),
    "muted": ("muted", "circle-dashed"),
}
_BY_TONE: dict[tuple[str, str], str] = {
    ("ok", "circle-check"): (
        "delivered done received confirmed connected acked applied approved active paid restocked inspected closed up "
        "purchased low"
    ),
    ("info", "circle-dot"): "ordered planned part_received running released consumed checked",
    ("info", "package"): "ready routed",
    ("info", "package-check"): "packed labelled",
    ("info", "truck"): "part_shipped in_transit",
    ("info", "send"): "sent",
    ("info", "clock"): "open pending queued requested waiting uploaded",
    ("info", "loader"): "picking applying",
    ("warn", "clock"): "void_pending setup snoozed medium stale",
    ("warn", "circle-pause"): "on_hold held paused stopped",
    ("bad", "octagon-alert"): (
        "failed dead rejected refused needs_auth in_doubt unknown down error late high urgent lost"
    ),
    ("muted", "circle-dashed"): "draft gone ignored not_bought not_tracked",
    ("muted", "truck"): "shipped",
    ("muted", "ban"): "cancelled void ended disabled declined dismissed undone archived revoked expired",
}
for _pair, _words in _BY_TONE.items():
    STATES.update(dict.fromkeys(_words.split(), _pair))


@register.simple_tag
def icon(name: str, size: int = 16, label: str = "") -> SafeString:
    """An inline Lucide icon; decoration unless it has a label."""
    return _icon(str(name), size, label)


@lru_cache(maxsize=1024)
def _icon(name: str, size: int, label: str) -> SafeString:
    """Kept as text: the package copies and writes a tree of elements each time, and a page has a hundred icons."""
    attributes: dict[str, str] = {"class": "icon"}
    attributes |= {"role": "img", "aria-label": label} if label else {"aria-hidden": "true"}
    try:
        return mark_safe(lucide._render_icon(name, size, **attributes))  # noqa: S308 - built from the package's own SVG
    except lucide.IconDoesNotExist:
        return mark_safe(lucide._render_icon("circle", size, **{"class": "icon", "aria-hidden": "true"}))  # noqa: S308 - as above


# --- figures ------------------------------------------------------------------------------------


def money_text(amount: Any, currency: str = "") -> str:
    """`1,240.00 EUR` with the currency's own digits; – for none."""
    if amount is None or amount == "":
        return "–"
    value = amount if isinstance(amount, Decimal) else Decimal(str(amount))
    text = f"{value:,.{minor_digits(currency) if currency else 2}f}".replace("-", "−")
    return f"{text} {currency}".strip()


@register.simple_tag
def money(amount: Any, currency: str = "") -> SafeString:
    """Money with its currency in a quieter tone."""
    if amount is None or amount == "":
        return SafeString('<span class="none">–</span>')
    figure, _, code = money_text(amount, currency).partition(" ")
    return format_html(
        '<span class="money">{}{}</span>', figure, format_html(" <small>{}</small>", code) if code else ""
    )


@register.filter(name="some")
def some_(count: Any, noun: str) -> str:
    """A count with its noun, `{{ n|some:"token" }}`; with a plural of its own `{{ n|some:"level is,levels are" }}`."""
    one, _, many = noun.partition(",")
    return some(int(count or 0), one, many)


@register.filter
def qty(value: Any) -> str:
    """A whole number with thousands separators; – for none."""
    return "–" if value is None or value == "" else f"{int(value):,}".replace("-", "−")


#: a moment as the audit trail stores it
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@register.filter
def words(value: Any) -> Any:
    """A list as people write it: `['WEST', 'EAST']` → "WEST, EAST"; true and false as yes and no; a stamp as a time."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple | set):
        return ", ".join(str(words(one)) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {words(one)}" for key, one in value.items())
    if isinstance(value, str) and _STAMP.fullmatch(value):
        local = dt.datetime.fromisoformat(value).astimezone(clock.business_zone())
        return f"{local:%-d %b %Y %H:%M:%S} {local.tzname()}"
    return value


@register.filter
def label(key: Any) -> str:
    """A key as a label: `max_splits` → "Max splits"."""
    text = str(key).replace("_", " ").replace(".", " ")
    return text[:1].upper() + text[1:]


@register.filter
def quiet(value: Any) -> str:
    """A whole number as `qty`, a zero in a quieter tone: a grid of zeros reads as empty."""
    text = qty(value)
    return format_html('<span class="none">{}</span>', text) if text in ("0", "–") else text


@register.filter
def signed(value: Any) -> str:
    """A movement: +3, −2, 0."""
    return (
        "–" if value is None or value == "" else f"{int(value):+,}".replace("-", "−") if int(value) else "0"
    )


@register.filter
def dash(value: Any) -> Any:
    """– instead of an empty cell, in the quieter tone that a card leaves out."""
    return SafeString('<span class="none">–</span>') if value is None or value == "" else value


#: numbers of documents that the search opens at once: an order, a shipment, a return, a purchase order, a transfer
_DOCUMENT = re.compile(r"([A-Z]{1,4}-\d+)(/\d+)?")


@register.filter
def ref(text: Any) -> Any:
    """A document's number as a link to it; other text as it is, – for none."""
    found = _DOCUMENT.fullmatch(str(text or ""))
    url = link_to("control:search") if found else ""
    if not found or not url:
        return dash(text)
    return format_html('<a href="{}?q={}">{}</a>', url, found[1], found[1])


@register.filter
def about(count: Any, cap: int = 10_000) -> str:
    """A count shown to people: above `cap`, up to which it was counted, it says 10,000+."""
    return "–" if count is None else f"{cap:,}+" if int(count) > cap else f"{int(count):,}"


@register.filter
def duration(seconds: Any) -> str:
    """`0.8 s`, `41 s`, `12 min`, `3 h 10 min`, `1 d 11 h`, `12 d`."""
    if seconds is None or seconds == "":
        return "–"
    value = seconds.total_seconds() if isinstance(seconds, dt.timedelta) else float(seconds)
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes = int(value // 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    days, hours = minutes // 1440, minutes % 1440 // 60
    return f"{days} d {hours} h" if days < 3 and hours else f"{days} d"


@register.filter
def share(value: Any) -> str:
    """0.1234 → 12.3 %."""
    return "–" if value is None or value == "" else f"{float(value) * 100:.1f} %"


# --- times --------------------------------------------------------------------------------------


def relative(moment: dt.datetime, at: dt.datetime) -> str:
    """`3 h 10 min ago` or `in 40 min`."""
    seconds = (at - moment).total_seconds()
    if abs(seconds) < 45:
        return "just now" if seconds >= 0 else "in a moment"
    text = duration(abs(seconds))
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name) if name else clock.business_zone()
    except (ZoneInfoNotFoundError, ValueError):
        return clock.business_zone()


@register.simple_tag(takes_context=True)
def when(
    context: template.Context, moment: dt.datetime | None, zone: str = "", style: str = "auto"
) -> SafeString:
    """A time in the named zone, else the user's, else the business's; the title has zone and distance.

    `style`: auto (14:02 today, else 21 Nov 14:02), long (21 Nov 2026 14:02 EST · in 3 h), full, date, relative.
    """
    if moment is None:
        return SafeString('<span class="none">–</span>')
    user = getattr(context.get("request"), "user", None)
    own = _zone(getattr(user, "time_zone", ""))
    there = _zone(zone) if zone else own
    local = moment.astimezone(there)
    at = clock.now()
    today = at.astimezone(local.tzinfo).date()
    distance = relative(moment, at)
    if style == "relative":
        text = distance
    elif style == "date":
        text = f"{local:%-d %b}" if local.year == today.year else f"{local:%-d %b %Y}"
    elif style == "long":
        text = f"{local:%-d %b %Y %H:%M} {local.tzname()} · {distance}"
    elif style == "full":
        text = f"{local:%-d %b %Y %H:%M:%S} {local.tzname()}"
    elif local.date() == today:
        text = f"{local:%H:%M}"
    else:
        text = f"{local:%-d %b %H:%M}" if local.year == today.year else f"{local:%-d %b %Y %H:%M}"
    title = f"{local:%A} {local:%-d %B %Y %H:%M:%S} {local.tzname()} · {distance}"
    foreign = style == "auto" and local.utcoffset() != moment.astimezone(own).utcoffset()
    return format_html(
        '<time datetime="{}" title="{}">{}{}</time>', moment.isoformat(), title, text,
        format_html(" <small>{}</small>", local.tzname()) if foreign else "",
    )  # fmt: skip


@register.simple_tag(takes_context=True)
def zone(context: template.Context) -> str:
    """The zone that `when` uses on this page, by the short name it has now: `EST`."""
    user = getattr(context.get("request"), "user", None)
    return clock.now().astimezone(_zone(getattr(user, "time_zone", ""))).tzname() or "UTC"


# --- states -------------------------------------------------------------------------------------


@register.simple_tag
def pill(state: str, label: str = "", tone: str = "", title: str = "") -> SafeString:
    """A status: icon and word. `state` is a state key or a tone (ok info warn bad muted)."""
    found_tone, found_icon = STATES.get(str(state), ("muted", "circle-dashed"))
    if tone:
        found_tone, found_icon = tone, STATES[tone][1] if str(state) not in STATES else found_icon
    word = label or str(state).replace("_", " ").capitalize()
    return format_html(
        '<span class="pill {}"{}>{}<span>{}</span></span>',
        found_tone,
        format_html(' title="{}"', title) if title else "",
        icon(found_icon, 14),
        word,
    )


@register.filter
def who(actor: Any) -> str:
    """An actor as people say it: `task:routing` → "Routing (auto)", `user:ana` → "ana"."""
    kind, _, name = str(actor or "").partition(":")
    word = name.replace("_", " ").replace(".", " ")
    if not name:
        return kind or "–"
    if kind in ("user", "token"):
        return f"{name} (API)" if kind == "token" else name
    if kind == "channel":
        return f"{name} (channel)"
    return f"{word[:1].upper()}{word[1:]} (auto)"


@register.filter
def undo(message: Any) -> dict[str, Any] | None:
    """How to take back what a message tells of, if `screens.say` gave it one."""
    tags = getattr(message, "extra_tags", "") or ""
    if not tags.startswith("{"):
        return None
    found: dict[str, Any] = json.loads(tags)
    found["pairs"] = [
        (name, one)
        for name, value in found["values"].items()
        for one in (value if isinstance(value, list) else [value])
    ]
    return found


# --- addresses ----------------------------------------------------------------------------------


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """The page's query string with changes; None or "" removes a key: `href="{% query sort='sku' cursor=None %}"`."""
    request = context.get("request")
    params = request.GET.copy() if request is not None else QueryDict(mutable=True)
    for key, value in changes.items():
        if value is None or value == "":
            params.pop(key, None)
        elif isinstance(value, list | tuple):
            params.setlist(key, [str(one) for one in value])
        else:
            params[key] = str(value)
    return f"?{params.urlencode()}" if params else "?"


@register.simple_tag(takes_context=True)
def sort_th(context: template.Context, label: str, field: str, numeric: bool = False, target: str = "#results",
            unit: str = "") -> SafeString:  # fmt: skip
    """A sortable column head. Reads `?sort=`; `-field` is descending. A plain link that htmx makes quick."""
    request = context.get("request")
    current = request.GET.get("sort", context.get("sort") or "") if request is not None else ""
    state, mark, following = "none", "chevrons-up-down", f"-{field}" if numeric else field
    if current == field:
        state, mark, following = "ascending", "chevron-up", f"-{field}"
    elif current == f"-{field}":
        state, mark, following = "descending", "chevron-down", field
    href = query(context, sort=following, cursor=None)
    return format_html(
        '<th scope="col" aria-sort="{}"{}><a class="sort" href="{}" hx-get="{}" hx-target="{}" '
        'hx-push-url="true">{}{}{}</a></th>',
        state, mark_safe(' class="num"') if numeric else "", href, href, target, label,
        format_html(" <small>{}</small>", unit) if unit else "", icon(mark, 14),
    )  # fmt: skip


@register.simple_tag
def link_to(name: str, *args: Any, **kwargs: Any) -> str:
    """The address of a screen by name, or "" when this installation has no such screen."""
    try:
        return reverse(name, args=args or None, kwargs=kwargs or None)
    except NoReverseMatch:
        return ""


@register.simple_tag(takes_context=True)
def way_to(context: template.Context, name: str, *args: Any) -> str:
    """The address of a screen that the person looking may open, else "": `{% way_to "orders:new" as url %}`."""
    from oms.core.access import can

    url, user = link_to(name, *args), getattr(context.get("request"), "user", None)
    if not url or user is None or not user.is_authenticated:
        return ""
    if name.startswith("admin:"):
        return url if user.is_staff else ""
    right = getattr(resolve(url).func, "reading", "")
    return url if not right or can(user, right) else ""


@register.simple_tag(takes_context=True)
def may(context: template.Context, permission: str, warehouse: str = "", channel: str = "") -> bool:
    """Whether the person looking may do this: `{% may "orders.hold" as may_hold %}`."""
    from oms.core.access import can

    user = getattr(context.get("request"), "user", None)
    if user is None or not user.is_authenticated:
        return False
    return bool(can(user, permission, warehouse_code=warehouse or None, channel_code=channel or None))


@register.filter
def get(mapping: Mapping[Any, Any] | None, key: Any) -> Any:
    """A dictionary's value by a key held in a variable; None when absent."""
    return None if mapping is None else mapping.get(key)


# --- charts -------------------------------------------------------------------------------------


def _series(values: Iterable[Any], name: str) -> list[charts.Series]:
    """Accepts a list of numbers, or a list of Series."""
    rows = list(values)
    if rows and isinstance(rows[0], charts.Series):
        return rows
    return [charts.Series(name, rows)]


@register.simple_tag
def line_chart(title: str, labels: Sequence[str], values: Iterable[Any], unit: str = "", target: Any = None,
               shaded: Sequence[int] = (), name: str = "Value", target_name: str = "target") -> SafeString:  # fmt: skip
    return charts.line(
        title, labels, _series(values, name), unit=unit, target=target, target_name=target_name, shaded=shaded
    )


@register.simple_tag
def bar_chart(title: str, labels: Sequence[str], values: Iterable[Any], unit: str = "", target: Any = None,
              stacked: bool = False, shaded: Sequence[int] = (), name: str = "Value",
              target_name: str = "target") -> SafeString:  # fmt: skip
    return charts.bars(
        title, labels, _series(values, name), unit=unit, target=target, target_name=target_name, stacked=stacked,
        shaded=shaded,
    )  # fmt: skip


@register.simple_tag
def histogram_chart(
    title: str, values: Sequence[Any], bins: int = 12, unit: str = "", target: Any = None
) -> SafeString:
    return charts.histogram(title, values, bins=bins, unit=unit, target=target)


@register.simple_tag
def heat_strip(title: str, labels: Sequence[str], values: Sequence[Any], unit: str = "") -> SafeString:
    return charts.heat(title, labels, values, unit=unit)


@register.simple_tag
def sparkline(values: Sequence[Any], label: str = "") -> SafeString:
    return charts.sparkline(values, label)
