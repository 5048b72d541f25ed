"""Today, exceptions, search, jobs and audit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST

from oms.control import mending, selectors
from oms.core import exceptions_inbox, jobs, lists
from oms.core.access import can
from oms.core.clock import business_zone, now
from oms.core.errors import NotFound, UserError
from oms.core.exceptions_inbox import open_items
from oms.core.middleware import request_actor
from oms.core.models import AuditEntry, ExceptionItem, Job, User
from oms.core.paging import keyset_page
from oms.core.screens import Undo, back_to, is_fragment, page, say, screen, toast

PAGE = 50


# --- Today --------------------------------------------------------------------------------------


@require_GET
@screen()
def today(request: HttpRequest) -> HttpResponse:
    """The state of the house in one page; the live part refreshes itself and answers 204 when nothing moved."""
    user: Any = request.user
    mine = request.GET.get("owner") == "me"
    numbers = selectors.figures(user)
    buckets = selectors.health(user) if can(user, "orders.view") else []
    causes = selectors.causes(user, user.pk if mine else None)
    version = str(hash((numbers, tuple(buckets), tuple((c.kind, c.count, c.severity) for c in causes), mine)))
    if is_fragment(request) and request.GET.get("version") == version:
        return HttpResponse(status=204)
    context: dict[str, Any] = {
        "numbers": numbers,
        "buckets": buckets,
        "live_total": sum(bucket.count for bucket in buckets),
        "causes": causes,
        "waiting": sum(cause.count for cause in causes),
        "mine": mine,
        "at": now(),
        "version": version,
        "may_work": can(user, "exceptions.work"),
        "elsewhere": any(
            count is not None
            for count in (numbers.reorder, numbers.late_purchases, numbers.returns_waiting, numbers.drift)
        ),
        "first_use": can(user, "settings.manage") and not _anything(),
    }
    if can(user, "orders.view"):
        context["days"], counted = selectors.orders_by_day(user)
        # the bars are kept for a moment; today's says what the figure above it says
        context["per_day"] = [*counted[:-1], numbers.orders_today]
    return page(request, "control/today.html", context, fragment="control/_today.html")


def _anything() -> bool:
    """Whether this installation holds any order yet."""
    from oms.orders.models import Order

    return Order.objects.exists()


# --- exceptions ---------------------------------------------------------------------------------


def _filtered(request: HttpRequest) -> QuerySet[ExceptionItem]:
    return _matching(request.user, request.GET)


def _matching(user: Any, query: Any) -> QuerySet[ExceptionItem]:
    items = selectors.visible_exceptions(user)
    at = now()
    tab = query.get("tab", "open")
    if tab == "closed":
        items = items.filter(closed_at__isnull=False)
    elif tab == "snoozed":
        items = items.filter(closed_at__isnull=True, snoozed_until__gt=at)
    else:
        items = items.filter(closed_at__isnull=True).filter(
            Q(snoozed_until__isnull=True) | Q(snoozed_until__lte=at)
        )
        if tab == "mine":
            items = items.filter(owner=user)
        elif tab == "free":
            items = items.filter(owner__isnull=True)
    if query.get("kind"):
        items = items.filter(kind=query["kind"])
    if query.get("severity", "").isdigit():
        items = items.filter(severity=int(query["severity"]))
    text = query.get("q", "").strip()
    if text:
        items = items.filter(Q(title__icontains=text) | Q(detail__icontains=text))
    return items.select_related("owner")


EXCEPTION_HEADER = (
    "id", "kind", "title", "detail", "severity", "warehouse", "channel", "at_stake", "owner", "since", "due_at",
    "snoozed_until", "closed_at", "closed_by", "close_reason",
)  # fmt: skip


def _exception_row(item: ExceptionItem) -> list[Any]:
    return [
        item.pk, selectors.kind_label(item.kind), item.title, item.detail, item.get_severity_display(),
        item.warehouse_code, item.channel_code, item.money, item.owner.get_username() if item.owner else "",
        lists.stamp(item.first_at), lists.stamp(item.due_at), lists.stamp(item.snoozed_until),
        lists.stamp(item.closed_at), item.closed_by, item.close_reason,
    ]  # fmt: skip


@require_GET
@screen("exceptions.work")
def exceptions(request: HttpRequest) -> HttpResponseBase:
    user: Any = request.user
    items = _filtered(request)
    tab = request.GET.get("tab", "open")
    order = ("-closed_at", "-id") if tab == "closed" else ("severity", "due_at", "-money", "first_at", "id")
    if lists.wants_csv(request):
        return lists.csv_of("exceptions", EXCEPTION_HEADER, items.order_by(*order), _exception_row)
    found = keyset_page(items, order=order, cursor=request.GET.get("cursor", ""), limit=PAGE)
    mend = mending.mends(found.items, user)
    mine = selectors.visible_exceptions(user)
    waiting = open_items().filter(pk__in=mine.values("pk"))
    kinds = sorted(mine.filter(closed_at__isnull=True).order_by().values_list("kind", flat=True).distinct())
    snoozed = mine.filter(closed_at__isnull=True, snoozed_until__gt=now()).count()
    context: dict[str, Any] = {
        "items": [(item, selectors.kind_label(item.kind), mend.get(item.pk)) for item in found.items],
        "next_cursor": found.next_cursor,
        "count": items.count(),
        "tab": tab,
        "tabs": [
            _tab(tab, "open", "Open", waiting.count(), "bad"),
            _tab(tab, "mine", "Mine", waiting.filter(owner=user).count()),
            _tab(tab, "free", "Without owner", waiting.filter(owner__isnull=True).count()),
            _tab(tab, "snoozed", "Snoozed", snoozed),
            _tab(tab, "closed", "Closed", None),
        ],
        "kinds": [(kind, selectors.kind_label(kind)) for kind in kinds],
        "severities": ExceptionItem.Severity.choices,
        "filtered": any(request.GET.get(key) for key in ("kind", "severity", "q")),
        "people": User.objects.filter(is_active=True).order_by("username")[:200],
        "snoozes": SNOOZES,
    }
    context["tools"] = tools = lists.tools(
        request,
        "control:exceptions",
        ((3, "Cause"), (4, "Severity"), (5, "Since"), (6, "Due"), (7, "At stake"), (8, "Owner")),
        count=lambda query: _matching(user, query)[:1000].count(),
        csv=True,
    )
    context["tabs"] = lists.with_saved(context["tabs"], tools)
    rows_only = bool(request.GET.get("cursor"))
    fragment = "control/_exception_rows.html" if rows_only else "control/_exceptions.html"
    return page(request, "control/exceptions.html", context, fragment=fragment)


def _tab(chosen: str, key: str, label: str, count: int | None, tone: str = "") -> dict[str, Any]:
    url = "?" if key == "open" else f"?tab={key}"
    return {
        "label": label,
        "url": url,
        "count": count,
        "active": chosen == key,
        "tone": tone if count else "",
    }


SNOOZES: tuple[tuple[str, str], ...] = (
    ("60", "1 hour"),
    ("240", "4 hours"),
    ("1440", "1 day"),
    ("10080", "1 week"),
)


@require_POST
@screen("exceptions.work")
def exceptions_act(request: HttpRequest) -> HttpResponse:
    """Take, give, snooze, close or reopen the chosen items, or all that match the list's filters."""
    user: Any = request.user
    chosen = selectors.visible_exceptions(user)
    if request.POST.get("all") == "1":
        chosen = _matching(user, QueryDict(request.POST.get("query", "")))
    else:
        ids = [int(one) for one in request.POST.getlist("ids") if one.isdigit()]
        chosen = chosen.filter(pk__in=ids)
    targets = list(chosen.values_list("pk", flat=True)[:1000])
    if not targets:
        raise UserError("Nothing is selected: tick at least one row.")
    action, actor = request.POST.get("action", ""), request_actor(request)
    done, problems = 0, []
    for pk in targets:
        try:
            _act(pk, action, request, user, actor)
            done += 1
        except UserError as error:
            problems.append(error.message)
    if not done and problems:
        raise UserError(problems[0])
    words = {
        "take": "taken",
        "assign": "given",
        "snooze": "snoozed",
        "close": "closed",
        "reopen": "opened again",
        "wake": "awake again",
    }[action]
    text = f"{done} {words}" + (f", {len(problems)} skipped: {problems[0]}" if problems else "")
    undo = _undo(action, request, targets) if done and not problems else None
    if is_fragment(request):
        changed: dict[str, Any] = {"exceptions:changed": {}}
        return toast(HttpResponse(status=204), text, "warn" if problems else "ok", undo=undo, **changed)
    say(request, text, undo)
    return redirect(back_to(request, "/exceptions/"))


#: what takes an action back
_BACK = {"take": "assign", "snooze": "wake", "close": "reopen"}


def _undo(action: str, request: HttpRequest, targets: list[int]) -> Undo | None:
    """The way back of an action on up to 100 items; no other system has heard of it."""
    if action not in _BACK or len(targets) > 100:
        return None
    return Undo(request.path, {"action": _BACK[action], "ids": targets})


def _act(pk: int, action: str, request: HttpRequest, user: User, actor: Any) -> None:
    reason = request.POST.get("reason", "")
    if action == "take":
        exceptions_inbox.assign(pk, user, actor=actor)
    elif action == "assign":
        owner_id = request.POST.get("owner", "")
        owner = User.objects.filter(pk=owner_id, is_active=True).first() if owner_id.isdigit() else None
        if owner_id and owner is None:
            raise UserError("owner: there is no such active user.", field="owner")
        exceptions_inbox.assign(pk, owner, actor=actor)
    elif action == "snooze":
        minutes = request.POST.get("minutes", "")
        if minutes not in dict(SNOOZES):
            raise UserError("until: choose how long.", field="minutes")
        exceptions_inbox.snooze(pk, now() + dt.timedelta(minutes=int(minutes)), reason, actor=actor)
    elif action == "close":
        exceptions_inbox.resolve(pk, request.POST.get("why", ""), actor=actor)
    elif action == "wake":
        exceptions_inbox.wake(pk, actor=actor)
    elif action == "reopen":
        exceptions_inbox.reopen(pk, actor=actor)
    else:
        raise UserError("action: choose take, assign, snooze, close or reopen.", field="action")


# --- search -------------------------------------------------------------------------------------


@require_GET
@screen()
def search(request: HttpRequest) -> HttpResponse:
    """Results for the palette, or a page; one exact find plus Enter jumps there."""
    text = request.GET.get("q", "").strip()
    hits = selectors.search(request.user, text)
    exact = [hit for hit in hits if hit.exact]
    if not is_fragment(request) and len(exact) == 1:
        return redirect(exact[0].url)
    context = {"q": text, "hits": hits, "too_short": len(text) < 2}
    return page(request, "control/search.html", context, fragment="control/_hits.html")


# --- jobs ---------------------------------------------------------------------------------------


#: rows of a job that its page lists
ROWS = 200


def _visible_jobs(request: HttpRequest) -> QuerySet[Job]:
    """Everybody sees the jobs they started; who runs the house sees all."""
    found = Job.objects.all()
    return (
        found
        if can(request.user, "settings.manage")
        else found.filter(created_by=str(request_actor(request)))
    )


@require_GET
@screen()
def job_list(request: HttpRequest) -> HttpResponse:
    found = _visible_jobs(request)
    state = request.GET.get("state", "")
    if state in Job.State.values:
        found = found.filter(state=state)
    version = selectors.latest_job_change()
    if request.GET.get("version") == version and is_fragment(request):
        return HttpResponse(status=204)
    slice_ = keyset_page(found, order=("-id",), cursor=request.GET.get("cursor", ""), limit=PAGE)
    context = {
        "jobs": slice_.items,
        "next_cursor": slice_.next_cursor,
        "count": found.count(),
        "states": Job.State.choices,
        "state": state,
        "version": version,
    }
    fragment = "control/_job_rows.html" if request.GET.get("cursor") else "control/_jobs.html"
    return page(request, "control/jobs.html", context, fragment=fragment)


def _job(request: HttpRequest, job_id: int) -> Job:
    job = _visible_jobs(request).filter(pk=job_id).first()
    if job is None:
        raise NotFound("job: no such job.")
    return job


@require_GET
@screen()
def job_detail(request: HttpRequest, job_id: int) -> HttpResponse:
    job = _job(request, job_id)
    version = f"{job.state}.{job.position}.{job.stop_asked}"
    if is_fragment(request) and request.GET.get("version") == version:
        return HttpResponse(status=204)
    rows = job.rows.order_by("ok", "number") if job.failed else job.rows.all()
    if request.GET.get("only") == "failed":
        rows = rows.filter(ok=False)
    listed = list(rows[: ROWS + 1])
    context = {
        "job": job,
        "rows": listed[:ROWS],
        "more": len(listed) > ROWS,
        "only_failed": request.GET.get("only") == "failed",
        "version": version,
        "part": is_fragment(request),
        "running": job.state in (Job.State.QUEUED, Job.State.RUNNING),
        "resumable": job.state in (Job.State.STOPPED, Job.State.FAILED),
        "result": [(key, value) for key, value in job.result.items() if isinstance(value, str | int | float)],
    }
    return page(request, "control/job.html", context, fragment="control/_job.html")


@require_POST
@screen()
def job_stop(request: HttpRequest, job_id: int) -> HttpResponse:
    jobs.stop(_job(request, job_id).pk, actor=request_actor(request))
    messages.info(request, "Stopping after the rows it is working on.")
    return redirect("control:job", job_id)


@require_POST
@screen()
def job_resume(request: HttpRequest, job_id: int) -> HttpResponse:
    jobs.resume(_job(request, job_id).pk, actor=request_actor(request))
    messages.success(request, "Going on after the last row done.")
    return redirect("control:job", job_id)


# --- audit --------------------------------------------------------------------------------------

AUDIT_EXPORT_ROWS = 100_000


def _audit(request: HttpRequest) -> QuerySet[AuditEntry]:
    found = AuditEntry.objects.all()
    for key, lookup in (
        ("actor", "actor__icontains"),
        ("action", "action__startswith"),
        ("object", "object_label__icontains"),
        ("type", "object_type"),
        ("id", "object_id"),
        ("via", "via"),
        ("request", "request_id"),
    ):
        value = request.GET.get(key, "").strip()
        if value:
            found = found.filter(**{lookup: value})
    for key, lookup, days in (("from", "at__gte", 0), ("to", "at__lt", 1)):
        value = request.GET.get(key, "").strip()
        if value:
            try:
                day = dt.date.fromisoformat(value)
            except ValueError as error:
                raise UserError(f"{key}: '{value}' is not a day; write 2026-11-23.", field=key) from error
            border = dt.datetime.combine(day, dt.time(0), business_zone()) + dt.timedelta(days=days)
            found = found.filter(**{lookup: border})
    return found


def _changes(entry: AuditEntry) -> list[tuple[str, Any, Any]]:
    """Field, before, after; fields that did not change are left out."""
    before, after = entry.before or {}, entry.after or {}
    return [
        (key, before.get(key), after.get(key))
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]


#: where a change came from, in words
WAYS = {
    "ui": "Screen", "api": "API", "admin": "Data repair", "import": "Import", "task": "Background", "hook": "Webhook",
}  # fmt: skip


def _kind(entry: AuditEntry) -> str:
    """The object's kind as people say it; of a model that no longer exists, its stored name."""
    try:
        return str(apps.get_model(entry.object_type)._meta.verbose_name).capitalize()
    except (LookupError, ValueError):
        return entry.object_type


@require_GET
@screen("audit.view")
def audit(request: HttpRequest) -> HttpResponseBase:
    found = _audit(request)
    if request.GET.get("format") == "csv":
        return _audit_csv(found)
    slice_ = keyset_page(found, order=("-id",), cursor=request.GET.get("cursor", ""), limit=PAGE)
    context = {
        "entries": [
            (entry, _changes(entry), _kind(entry), WAYS.get(entry.via, entry.via)) for entry in slice_.items
        ],
        "next_cursor": slice_.next_cursor,
        "ways": list(WAYS.items()),
        "filtered": any(value for key, value in request.GET.items() if key not in ("cursor", "sort")),
        "csv": "?" + urlencode({**request.GET.dict(), "format": "csv"}),
    }
    fragment = "control/_audit_rows.html" if request.GET.get("cursor") else "control/_audit.html"
    return page(request, "control/audit.html", context, fragment=fragment)


def _audit_csv(found: QuerySet[AuditEntry]) -> StreamingHttpResponse:
    def rows() -> Iterator[list[Any]]:
        for entry in found.order_by("-id")[:AUDIT_EXPORT_ROWS].iterator(chunk_size=2000):
            yield [
                entry.at.isoformat(), entry.actor, entry.action, entry.object_type, entry.object_id, entry.object_label,
                entry.before, entry.after, entry.via, entry.address, entry.request_id,
            ]  # fmt: skip

    header = [
        "at",
        "actor",
        "action",
        "object_type",
        "object_id",
        "object",
        "before",
        "after",
        "via",
        "address",
        "request_id",
    ]
    return lists.csv_file("audit", header, rows())
