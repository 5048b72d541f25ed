"""What every list offers beside its filters: columns to leave out, saved views with counts, a CSV file, a place.

A list view calls `tools(...)` once, hands the result to its template as `tools`, and adds `tools.tabs` to its own tabs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, QueryDict, StreamingHttpResponse

from oms.core.access import can
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.csvsafe import stream_csv
from oms.core.errors import Conflict, NotAllowed, NotFound, UserError
from oms.core.models import SavedView, User
from oms.core.roles import ROLES
from oms.core.screens import is_fragment

M = TypeVar("M", bound=Model)

#: how long the figure beside a saved view is kept
COUNT_SECONDS = 30
#: more columns than this no table of ours has; the stylesheet hides up to this number
MOST_COLUMNS = 16
#: not part of what a view remembers
_PASSING = ("cursor", "saved", "format", "version", "since", "csrfmiddlewaretoken")


@dataclass(frozen=True)
class Column:
    number: int
    label: str
    shown: bool


@dataclass(frozen=True)
class Tools:
    """The list's own menu."""

    screen: str
    columns: list[Column]
    query: str  # what "Save view" would remember
    views: list[SavedView]
    current: SavedView | None
    tabs: list[dict[str, Any]] = field(default_factory=list)
    csv: str = ""
    may_share: bool = False

    @property
    def roles(self) -> list[tuple[str, str]]:
        return [(key, f"Role: {value[0]}") for key, value in ROLES.items()]

    @property
    def hide(self) -> str:
        """For the table: `<table data-hide="{{ tools.hide }}">`."""
        return " ".join(str(column.number) for column in self.columns if not column.shown)


def visible_views(user: User, screen: str) -> QuerySet[SavedView]:
    """The person's own views of a list, and those shared with everybody or with one of their roles."""
    theirs = Q(role="") | Q(role__in=user.memberships.values("role"))
    return SavedView.objects.filter(Q(owner=user) | Q(shared=True) & theirs, screen=screen)


def remembered(query: QueryDict) -> str:
    """The part of an address that makes a view: filters, sort and tab."""
    kept = query.copy()
    for name in list(kept):
        if name in _PASSING or not any(kept.getlist(name)):
            kept.pop(name, None)
    return kept.urlencode()


def tools(
    request: HttpRequest,
    screen: str,
    columns: Sequence[tuple[int, str]],
    *,
    count: Callable[[QueryDict], int] | None = None,
    csv: bool = False,
) -> Tools:
    """One query, none for a part of the page. `columns`: (place in the table from 1, name) of what may be left out.

    `count` answers how many rows a view's query has; it should stop counting somewhere, and is asked at most
    once in 30 s per view and person.
    """
    user: Any = request.user
    hidden = set((user.hidden_columns or {}).get(screen, ()))
    # a part of the page shows no tabs and no menu
    views = [] if is_fragment(request) else list(visible_views(user, screen))
    chosen = request.GET.get("saved", "")
    current = next((one for one in views if str(one.pk) == chosen), None)
    tabs = [
        {
            "label": one.name,
            "url": f"?{one.query}{'&' if one.query else ''}saved={one.pk}",
            "count": _count(one, user, count),
            "active": one is current,
            "tone": "",
            "icon": "users-round" if one.shared else "bookmark",
        }
        for one in views
        if one.pinned or one is current
    ]
    export = request.GET.copy()
    export.pop("cursor", None)
    export["format"] = "csv"
    return Tools(
        screen,
        [Column(number, label, label not in hidden) for number, label in columns],
        remembered(request.GET),
        views,
        current,
        tabs,
        f"?{export.urlencode()}" if csv else "",
        can(user, "settings.manage") or can(user, "users.manage"),
    )


def with_saved(tabs: list[dict[str, Any]], found: Tools) -> list[dict[str, Any]]:
    """The list's own tabs, then the pinned views; an open saved view is the only active one."""
    if found.current is not None:
        tabs = [{**tab, "active": False} for tab in tabs]
    return [*tabs, *found.tabs]


def _count(view: SavedView, user: User, count: Callable[[QueryDict], int] | None) -> int | None:
    if count is None:
        return None
    key = f"lists.count.{view.pk}.{user.pk}.{hash(view.query)}"
    kept: int | None = cache.get(key)
    if kept is None:
        kept = count(QueryDict(view.query))
        cache.set(key, kept, COUNT_SECONDS)
    return kept


# --- what a person changes ----------------------------------------------------------------------


def hide_columns(user: User, screen: str, shown: Iterable[str], offered: Iterable[str]) -> None:
    """Keep which of the offered columns a person leaves out of a list, by name: their places may change.

    Raises `UserError`.
    """
    offered, shown = set(offered), set(shown)
    wrong = len(offered) > MOST_COLUMNS or any(not one or len(one) > 40 for one in offered)
    if not screen or len(screen) > 40 or wrong:
        raise UserError("columns: the page is out of date; load it again.", field="columns")
    kept = dict(user.hidden_columns or {})
    if hidden := sorted(offered - shown):
        kept[screen] = hidden
    else:
        kept.pop(screen, None)
    user.hidden_columns = kept
    user.save(update_fields=["hidden_columns"])


def save_view(
    user: User, screen: str, name: str, query: str, *, shared: bool = False, role: str = "", pinned: bool = True,
    actor: Actor,
) -> SavedView:  # fmt: skip
    """Remember a filter under a name; the same name of the same person is replaced.

    Raises `UserError`, `NotAllowed` (sharing needs the right to manage settings or users), `Conflict` for a name
    that somebody shares already.
    """
    name = " ".join(name.split())[:80]
    if not name:
        raise UserError("name: give the view a name.", field="name")
    if len(query) > 1000:
        raise UserError("view: it has too many filters to be remembered.", field="query")
    if shared and not (can(user, "settings.manage") or can(user, "users.manage")):
        raise NotAllowed("You may keep views for yourself; sharing one needs the right to manage settings.")
    values = {"query": query, "shared": shared, "role": role if shared else "", "pinned": pinned}
    try:
        with transaction.atomic():
            view, _ = SavedView.objects.update_or_create(
                owner=user, screen=screen, name=name, defaults=values
            )
            record(actor, "view.saved", view, after={"screen": screen, "name": name, **values})
    except IntegrityError as error:
        raise Conflict(
            f"name: a shared view is called '{name}' already; choose another.", field="name"
        ) from error
    return view


def own_view(user: User, view_id: int) -> SavedView:
    """A view that the person may change: their own, or a shared one for whoever manages settings."""
    view = SavedView.objects.filter(pk=view_id).first()
    if view is None or not (view.owner_id == user.pk or (view.shared and can(user, "settings.manage"))):
        raise NotFound("view: there is no such view of yours.", field="view")
    return view


def pin_view(user: User, view_id: int, pinned: bool) -> SavedView:
    """Put a view among the tabs, or take it away from there. Raises `NotFound`."""
    view = own_view(user, view_id)
    view.pinned = pinned
    view.save(update_fields=["pinned"])
    return view


def remove_view(user: User, view_id: int, *, actor: Actor) -> SavedView:
    """Forget a view. Raises `NotFound`."""
    view = own_view(user, view_id)
    with transaction.atomic():
        record(actor, "view.removed", view, before={"screen": view.screen, "name": view.name})
        SavedView.objects.filter(pk=view_id).delete()
    return view


def wants_csv(request: HttpRequest) -> bool:
    """Whether a list is asked for as a file: its own address and filters with `format=csv`."""
    return request.GET.get("format") == "csv"


def csv_of(
    name: str, header: Sequence[str], found: QuerySet[M], row: Callable[[M], Sequence[Any]]
) -> StreamingHttpResponse:
    """Everything that a list's filters match as a file, 500 rows in memory at a time."""
    return csv_file(name, header, (row(one) for one in found.iterator(chunk_size=500)))


def stamp(moment: dt.datetime | None) -> str:
    """A moment as a cell: ISO 8601 with its zone, empty for none."""
    return moment.isoformat() if moment else ""


def csv_file(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> StreamingHttpResponse:
    """A list as a file, streamed, every cell safe for spreadsheets."""
    response = StreamingHttpResponse(stream_csv(header, rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response
