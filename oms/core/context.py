"""What the shell of every page needs: who looks, what they may open, and how many things need a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import SimpleLazyObject
from django.utils.http import urlencode

from oms.core import business
from oms.core.access import can
from oms.core.exceptions_inbox import open_items, visible_to


@dataclass(frozen=True)
class Entry:
    """One line of the navigation; shown when the screen exists and the person holds one of the rights."""

    label: str
    url_name: str
    icon: str
    permissions: tuple[str, ...] = ()
    key: str = ""  # second key of the "g" shortcut
    by_place: bool = False  # the list can be filtered by warehouse: it opens in the one chosen in the top bar


#: in the order of the floor; an empty heading groups without a title
NAVIGATION: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "",
        (
            Entry("Today", "control:today", "sun", key="t"),
            Entry("Exceptions", "control:exceptions", "inbox", ("exceptions.work",), key="e"),
        ),
    ),
    (
        "Sell",
        (
            Entry("Orders", "orders:list", "receipt-text", ("orders.view",), key="o", by_place=True),
            Entry("Stock", "inventory:stock", "boxes", ("stock.view",), key="s", by_place=True),
            Entry("Channels", "channels:list", "store", ("channels.view",), key="c"),
        ),
    ),
    (
        "Ship",
        (
            Entry("Routing", "fulfillment:routing", "route", ("orders.view",), key="r"),
            Entry(
                "Pick & pack", "fulfillment:floor", "scan-barcode", ("shipping.work",), key="f", by_place=True
            ),
            Entry("Shipments", "fulfillment:shipments", "truck", ("shipping.view",), key="h", by_place=True),
            Entry("3PLs", "threepl:list", "warehouse", ("shipping.view",)),
            Entry("Returns", "returns:list", "undo-2", ("returns.view",), key="b", by_place=True),
        ),
    ),
    (
        "Buy",
        (
            Entry(
                "Purchase orders",
                "procurement:orders",
                "clipboard-list",
                ("purchasing.view",),
                key="p",
                by_place=True,
            ),
            Entry("Suppliers", "procurement:suppliers", "factory", ("purchasing.view",)),
            Entry("Reorder", "procurement:reorder", "rotate-ccw", ("purchasing.view",), by_place=True),
        ),
    ),
    (
        "Run",
        (
            Entry("Reports", "control:reports", "chart-line", ("reports.view",)),
            Entry("Imports", "control:imports", "upload", ("imports.run",), key="i"),
            Entry("Exports", "control:exports", "file-down", ("imports.run",)),
            Entry("Jobs", "control:jobs", "list-checks"),
            Entry("Audit", "control:audit", "shield-check", ("audit.view",)),
            Entry("Settings", "control:settings", "settings", ("settings.manage", "users.manage")),
        ),
    ),
)


#: screens that stand under the address of another line than their own
BELONGS = {"channels:grid": "inventory:stock"}


@dataclass(frozen=True)
class Link:
    label: str
    url: str
    icon: str
    key: str
    active: bool


def chosen_place(request: HttpRequest) -> str:
    """Code of the warehouse chosen in the top bar; empty = all."""
    session: Any = getattr(request, "session", None)
    return str(session.get("warehouse", "")) if session is not None else ""


def navigation(request: HttpRequest) -> list[tuple[str, list[Link]]]:
    """The groups this person may open, with the longest matching address marked."""
    found: list[tuple[str, list[Entry], list[str]]] = []
    for heading, entries in NAVIGATION:
        shown, urls = [], []
        for entry in entries:
            if entry.permissions and not any(can(request.user, right) for right in entry.permissions):
                continue
            try:
                urls.append(reverse(entry.url_name))
            except NoReverseMatch:
                continue
            shown.append(entry)
        if shown:
            found.append((heading, shown, urls))
    matches = [
        url for _, _, urls in found for url in urls if url != "/" and request.path.startswith(url.rstrip("/"))
    ]
    here = max(matches, key=len, default="/" if request.path == "/" else "")
    if request.resolver_match and request.resolver_match.view_name in BELONGS:
        here = reverse(BELONGS[request.resolver_match.view_name])
    place = chosen_place(request)
    in_place = f"?{urlencode({'warehouse': place})}" if place else ""
    return [
        (
            heading,
            [
                Link(one.label, url + (in_place if one.by_place else ""), one.icon, one.key, url == here)
                for one, url in zip(shown, urls, strict=True)
            ],
        )
        for heading, shown, urls in found
    ]


def _shell(request: HttpRequest) -> dict[str, Any]:
    user = request.user
    if not user.is_authenticated:
        return {"company": business.get("company_name"), "theme": "auto", "density": "normal"}
    with business.read_once():
        return _shell_of(request, user)


def _shell_of(request: HttpRequest, user: Any) -> dict[str, Any]:
    return {
        "company": business.get("company_name"),
        "currency": business.currency(),
        "theme": getattr(user, "theme", "auto"),
        "density": getattr(user, "density", "normal"),
        "keys": getattr(user, "keys_enabled", True),
        "navigation": navigation(request),
        "exceptions": open_items().filter(visible_to(user)).count() if can(user, "exceptions.work") else None,
        "place": request.GET.get("warehouse", "") or chosen_place(request),
        "paused": bool(business.get("push_paused")),
    }


def shell(request: HttpRequest) -> dict[str, Any]:
    """Context processor; read only by pages that draw the shell, so fragments cost nothing."""
    return {"shell": SimpleLazyObject(lambda: _shell(request))}
