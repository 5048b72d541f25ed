"""Reports: the key figures, their rows, and both as files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET

from oms.control.kpis import drill, report, rollup
from oms.control.selectors import address
from oms.core import business
from oms.core.clock import business_day
from oms.core.csvsafe import stream_csv
from oms.core.errors import NotAllowed, NotFound
from oms.core.paging import keyset_page
from oms.core.screens import page, screen

PAGE = 50
ONE = dt.timedelta(days=1)


@require_GET
@screen("reports.view")
def reports(request: HttpRequest) -> HttpResponse:
    """Tiles and charts of all figures for one window."""
    ask = report.asked(request.GET, request.user)
    with business.read_once():
        return _reports(request, ask)


def _reports(request: HttpRequest, ask: report.Asked) -> HttpResponse:
    found = report.figures(ask)
    query = urlencode(ask.query())
    context = {
        "ask": ask,
        "tiles": [(one, f"#{one.kpi.key}" if not one.hidden else "", _tone(one)) for one in found],
        "figures": [
            (one, _links(one, query), f"{reverse('control:report-csv', args=[one.kpi.key])}?{query}")
            for one in found
            if not one.hidden
        ],
        "as_of": rollup.as_of(),
        "ranges": _ranges(ask),
        "chips": _chips(ask),
        **report.choices(ask),
    }
    return page(request, "control/reports.html", context, fragment="control/_reports.html")


def _tone(one: report.Figure) -> str:
    return "warn" if one.good is False else ""


def _links(one: report.Figure, query: str) -> list[tuple[str, str, int | None]]:
    return [
        (label, f"{reverse('control:report-rows', args=[one.kpi.key, part])}?{query}", one.counts.get(part))
        for part, label, _ in one.kpi.drills
    ]


def _ranges(ask: report.Asked) -> list[dict[str, Any]]:
    """Windows that people ask for most."""
    today = business_day()
    month = today.replace(day=1)
    before = month - ONE
    spans = (
        ("7 days", today - 6 * ONE, today),
        ("30 days", today - 29 * ONE, today),
        ("90 days", today - 89 * ONE, today),
        ("Last month", before.replace(day=1), before),
        ("12 months", today - 364 * ONE, today),
    )
    places = {name: value for name, value in ask.query().items() if name in ("channel", "warehouse")}
    return [
        {
            "label": label,
            "url": "?" + urlencode({"from": first.isoformat(), "to": last.isoformat(), **places}),
            "active": (first, last) == (ask.window.first, ask.window.last),
        }
        for label, first, last in spans
    ]


def _chips(ask: report.Asked) -> list[dict[str, str]]:
    found = []
    for name in ("channel", "warehouse"):
        value = getattr(ask, name)
        if value:
            rest = {key: kept for key, kept in ask.query().items() if key != name}
            found.append({"label": f"{name.title()}: {value}", "url": "?" + urlencode(rest)})
    return found


@require_GET
@screen("reports.view")
def report_rows(request: HttpRequest, key: str, part: str) -> HttpResponseBase:
    """Exactly the rows that a figure counts."""
    ask = report.asked(request.GET, request.user)
    kpi, label, one = drill.drill(key, part, ask)
    rows = one.rows(ask)
    if request.GET.get("format") == "csv":
        header = [column.key for column in one.columns]
        return _csv(f"{key}-{part}", header, _all(one, rows, ask))
    slice_ = keyset_page(rows, order=one.order, cursor=request.GET.get("cursor", ""), limit=PAGE)
    query = urlencode(ask.query())
    context = {
        "kpi": kpi,
        "label": label,
        "ask": ask,
        "columns": _shown(one),
        "rows": [(_url(one, row), _cells(one, row, ask)) for row in slice_.items],
        "next_cursor": slice_.next_cursor,
        "back": f"{reverse('control:reports')}?{query}#{kpi.key}",
        "csv": f"?{urlencode({**ask.query(), 'format': 'csv'})}",
        "tabs": _tabs(kpi, part, query),
    }  # fmt: skip
    fragment = "control/_report_rows.html" if request.GET.get("cursor") else ""
    return page(request, "control/report_rows.html", context, fragment=fragment)


def _tabs(kpi: report.Kpi, part: str, query: str) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "url": f"{reverse('control:report-rows', args=[kpi.key, key])}?{query}",
            "active": key == part,
            "count": None,
        }
        for key, label, _ in kpi.drills
    ]


def _url(one: drill.Drill, row: Any) -> str:
    name, argument = one.url(row)
    return address(name, argument)


def _shown(one: drill.Drill) -> list[drill.Column]:
    """The columns of the screen, which names the currency once, in the heads of the amounts."""
    return [column for column in one.columns if column.key != "currency"]


def _cells(one: drill.Drill, row: Any, ask: report.Asked) -> list[tuple[drill.Column, Any, str]]:
    """(column, value, kind): how the template writes it."""
    found = []
    for column in _shown(one):
        value = column.read(row, ask)
        kind = "when" if isinstance(value, dt.datetime) else "text"
        if isinstance(value, int):
            value = f"{value:,}".replace("-", "−")
        elif isinstance(value, float | Decimal):
            value = f"{value:,.2f}".replace("-", "−")
        found.append((column, value, kind))
    return found


def _all(one: drill.Drill, rows: drill.Rows, ask: report.Asked) -> Iterator[list[Any]]:
    for row in rows.order_by(*one.order).iterator(chunk_size=2000):
        yield [_plain(value) for value in drill.cells(one, row, ask)]


def _plain(value: Any) -> Any:
    """A cell of a file: times with their zone, amounts without grouping."""
    return (
        value.isoformat()
        if isinstance(value, dt.date)
        else Decimal(str(value))
        if isinstance(value, float)
        else value
    )


@require_GET
@screen("reports.view")
def report_csv(request: HttpRequest, key: str) -> HttpResponseBase:
    """A figure day by day (or month by month) with everything it was made of."""
    ask = report.asked(request.GET, request.user)
    kpi = report.KPIS.get(key)
    if kpi is None:
        raise NotFound("kpi: there is no such figure.", field="kpi")
    found = report.figure(kpi, ask)
    if found.hidden:
        raise NotAllowed(found.hidden)
    parts = [part.key for part in found.parts]

    def rows() -> Iterator[Sequence[Any]]:
        yield [
            ask.window.first,
            ask.window.last,
            _number(found.value),
            *(_number(part.value) for part in found.parts),
        ]
        for point, value in found.points:
            last = min(
                [
                    ask.window.last,
                    *(other.first - ONE for other, _ in found.points if other.first > point.first),
                ]
            )
            made = {part.key: part.value for part in kpi.parts(point.tally)}
            yield [
                max(point.first, ask.window.first),
                last,
                _number(value),
                *(_number(made[name]) for name in parts),
            ]

    return _csv(key, ["from", "to", kpi.key.replace("-", "_"), *parts], rows())


def _number(value: Any) -> Any:
    return None if value is None else value if isinstance(value, int) else Decimal(str(value))


def _csv(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> StreamingHttpResponse:
    answer = StreamingHttpResponse(stream_csv(header, rows), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return answer
