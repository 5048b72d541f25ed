"""Screens of the 3PLs: overview with scores, one account with its queue, one hand-off, settings, files."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages as flash
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from fulfillment.models import HandOff, ThreePLAccount, ThreePLFile, ThreePLMessage
from fulfillment.threepl import accounts, calls, files, forms, handoff, inbound, inbox, selectors
from inventory.models import PoolPolicy
from oms.core.access import can, require
from oms.core.actor import Actor, actor_of
from oms.core.doorbell import ring
from oms.core.errors import NotFound, UserError
from oms.core.http import HttpFailure
from oms.core.paging import keyset_page
from oms.core.screens import back_to, page, screen
from oms.core.words import some

State = HandOff.State
TABS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("work", "Under way", (State.PLANNED, State.SENT, State.IN_DOUBT, State.CONFIRMED, State.ACKNOWLEDGED)),
    ("trouble", "Trouble", (State.IN_DOUBT, State.REFUSED)),
    ("shipped", "Shipped", (State.SHIPPED,)),
    ("cancelled", "Cancelled", (State.CANCELLED,)),
)


@screen("shipping.view")
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """Every 3PL with its score."""
    lines = [(account, selectors.score(account)) for account in selectors.visible(request.user)[:50]]
    context = {
        "lines": lines,
        "may_manage": can(request.user, "settings.manage"),
        "see_costs": can(request.user, "costs.view"),
    }
    return page(request, "threepl/list.html", context)


@screen("shipping.view")
@require_GET
def detail(request: HttpRequest, code: str) -> HttpResponse:
    """One 3PL: score, hand-off queue, expected deliveries, messages that need a person, files."""
    account = selectors.the_account(request.user, code)
    tab = request.GET.get("tab", "work")
    states = next((states for key, _, states in TABS if key == tab), TABS[0][2])
    found = selectors.hand_offs(request.user).filter(account=account, state__in=states)
    listed = keyset_page(found, order=("-id",), cursor=request.GET.get("cursor", ""), limit=50)
    context = {
        "account": account,
        "score": selectors.score(account),
        "rows": listed.items,
        "next_cursor": listed.next_cursor,
        "columns": 7,
        "tabs": [
            {"label": label, "url": f"?tab={key}", "count": None, "active": key == tab}
            for key, label, _ in TABS
        ],
        "troubled": selectors.troubled(account)[:20],
        "files": account.files.defer("content")[:20],
        "inbound": list(account.inbound.prefetch_related("receipts")[:20]),
        "may_work": can(request.user, "shipping.work", account.warehouse.code),
        "may_manage": can(request.user, "settings.manage", account.warehouse.code),
        "see_costs": can(request.user, "costs.view"),
        "see_buyers": can(request.user, "pii.view", account.warehouse.code),
    }
    return page(
        request, "threepl/detail.html", context,
        fragment="threepl/_rows.html" if request.GET.get("cursor") else "threepl/_results.html",
    )  # fmt: skip


@screen("shipping.work")
@require_POST
def act(request: HttpRequest, code: str) -> HttpResponse:
    """What a person does to an account now: pull figures, write the order file, take a file, hand over, test."""
    account = selectors.the_account(request.user, code, "shipping.work")
    what, actor = request.POST.get("action", ""), actor_of(request.user)
    if what in ("test", "pause", "resume"):
        require(request.user, "settings.manage", account.warehouse.code)
    flash.success(request, _act(request, account, what, actor))
    return redirect(back_to(request, reverse("threepl:detail", args=[code])))


def _act(request: HttpRequest, account: ThreePLAccount, what: str, actor: Actor) -> str:
    if what == "test":
        tested = accounts.test(account.pk, actor=actor)
        if not tested.ok:
            raise UserError(tested.message)
        return tested.message
    if what == "pause":
        accounts.pause(account.pk, request.POST.get("reason", ""), actor=actor)
        return "Paused: no orders go out. Messages still come in."
    if what == "resume":
        tested = accounts.resume(account.pk, actor=actor)
        if not tested.ok:
            raise UserError(tested.message)
        return "Orders go out again."
    if what == "pull":
        try:
            fresh = accounts.pull_snapshot(account.pk)
        except HttpFailure as failure:
            raise UserError(f"{account}: {failure.message}") from failure
        return "Their figures are being compared." if fresh else "They have no newer figures."
    if what == "write":
        if account.kind != ThreePLAccount.Kind.CSV:
            raise UserError("action: this 3PL takes orders by its API.", field="action")
        inbound.plan(account.pk, actor=actor)
        written = [files.write_orders(account.pk, actor=actor), files.write_inbound(account.pk, actor=actor)]
        files.drop(account)
        told = [f"{file.name}: {some(file.rows, 'row')}." for file in written if file]
        return " ".join(told) or "There is nothing to write."
    if what == "expect":
        notice = request.POST.get("notice", "")
        found = account.inbound.filter(
            pk=int(notice) if notice.isdecimal() and len(notice) < 18 else 0
        ).first()
        if found is None:
            raise NotFound("Notice: there is no such notice.")
        inbound.tell_again(found.pk, actor=actor)
        return f"{found.reference} is told again."
    if what == "upload":
        upload = request.FILES.get("file")
        if upload is None:
            raise UserError("file: choose a file.", field="file")
        if upload.size and upload.size > 10 * 1024 * 1024:
            raise UserError("file: at most 10 MB.", field="file")
        taken = files.take(account.pk, upload.name or "file.csv", upload.read(), actor=actor)
        if not taken.accepted:
            row, column, sentence = taken.problems[0]
            raise UserError(
                f"{taken.name} was not taken, nothing was changed. Row {row}, {column}: {sentence}",
                field="file",
            )
        return f"{taken.name}: {taken.rows} rows are being booked."
    raise UserError("action: unknown.", field="action")


@screen("shipping.view")
@require_GET
def order(request: HttpRequest, pk: int) -> HttpResponse:
    """One hand-off: what was told, what was answered, what can be done."""
    item = selectors.the_hand_off(request.user, pk)
    context = {
        "item": item,
        "lines": list(item.lines.select_related("sku")),
        "calls": list(item.calls.order_by("pk")),
        "notices": list(item.parcels.select_related("shipment").order_by("pk")),
        "may_work": can(
            request.user, "shipping.work", item.account.warehouse.code, item.shipment.order.channel.code
        ),
        "is_open": item.state in (State.PLANNED, State.REFUSED, *handoff.OUT),
        "may_retry": item.state in (State.PLANNED, State.SENT, State.IN_DOUBT, State.REFUSED),
    }
    return page(request, "threepl/order.html", context)


@screen("shipping.work")
@require_POST
def order_act(request: HttpRequest, pk: int) -> HttpResponse:
    """Send again, take back, or confirm by hand."""
    item = selectors.the_hand_off(request.user, pk, "shipping.work")
    actor, what = actor_of(request.user), request.POST.get("action", "")
    if what == "again":
        handoff.send_again(pk, actor=actor)
        text = f"{item.reference} is sent again, or looked up first where it may have arrived."
    elif what == "back":
        handoff.take_back(pk, request.POST.get("reason", ""), actor=actor)
        text = f"{item.reference}: {item.account} is told not to send it."
    elif what == "confirm":
        handoff.confirm_by_hand(pk, request.POST.get("order_id", ""), actor=actor)
        text = f"{item.reference} is confirmed."
    else:
        raise UserError("action: unknown.", field="action")
    flash.success(request, text)
    return redirect("threepl:order", pk=pk)


@screen("shipping.work")
@require_POST
def message(request: HttpRequest, pk: int) -> HttpResponse:
    """Book a message again, or say how it was settled."""
    row = ThreePLMessage.objects.select_related("account").filter(pk=pk).first()
    if row is None:
        raise NotFound("Message: there is no such message.")
    account = selectors.the_account(request.user, row.account.code, "shipping.work")
    actor = actor_of(request.user)
    if request.POST.get("action") == "ignore":
        inbox.ignore(pk, request.POST.get("why", ""), actor=actor)
        flash.success(request, "Put aside.")
    else:
        inbox.retry(pk, actor=actor)
        flash.success(request, "It is booked again.")
    return redirect(back_to(request, reverse("threepl:detail", args=[account.code])))


@screen("settings.manage")
@require_http_methods(["GET", "POST"])
def connect(request: HttpRequest) -> HttpResponse:
    """A new 3PL, proved by a live test before anything is sent."""
    form, status = forms.ConnectForm(request.POST or None), 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            data, actor = form.cleaned_data, actor_of(request.user)
            require(request.user, "settings.manage", data["warehouse"].code)
            try:
                account = accounts.connect(
                    code=data["code"], name=data["name"], warehouse_id=data["warehouse"].pk, kind=data["kind"],
                    base_url=data["base_url"], credentials=form.secrets(), ack_minutes=data["ack_minutes"],
                    snapshot_minutes=data["snapshot_minutes"], actor=actor,
                )  # fmt: skip
            except UserError as error:
                form.add_error(error.field if error.field in form.fields else None, error.message)
            else:
                _tested(request, account, actor)
                return redirect("threepl:settings", code=account.code)
    return page(request, "threepl/connect.html", {"form": form}, status=status)


def _tested(request: HttpRequest, account: ThreePLAccount, actor: Actor) -> None:
    tested = accounts.test(account.pk, actor=actor)
    (flash.success if tested.ok else flash.error)(request, tested.message)


@screen("settings.manage")
@require_http_methods(["GET", "POST"])
def account_settings(request: HttpRequest, code: str) -> HttpResponse:
    """Connection, secrets (never shown), tolerance. Saving a connection tests it."""
    account = selectors.the_account(request.user, code, "settings.manage")
    row = PoolPolicy.objects.filter(warehouse=account.warehouse_id).first() or PoolPolicy()
    part, status, actor = request.POST.get("part", ""), 200, actor_of(request.user)
    now_set: dict[str, Any] = {
        "name": account.name, "base_url": account.base_url, "ack_minutes": account.ack_minutes,
        "snapshot_minutes": account.snapshot_minutes, "key": (account.credentials or {}).get("key", ""),
    }  # fmt: skip
    rules = {
        name: getattr(row, name)
        for name in ("accept_units", "accept_percent", "grace_minutes", "max_age_hours")
    }
    form = forms.SettingsForm(request.POST if part == "connection" else None, initial=now_set)
    policy = forms.PolicyForm(request.POST if part == "policy" else None, initial=rules)
    if request.method == "POST":
        status = 422
        if part == "policy" and policy.is_valid():
            accounts.set_policy(account.pk, actor=actor, **policy.cleaned_data)
            flash.success(request, "Stored.")
            return redirect("threepl:settings", code=code)
        if part == "connection" and form.is_valid():
            data = form.cleaned_data
            try:
                accounts.change(
                    account.pk, actor=actor, credentials=form.secrets(), name=data["name"],
                    base_url=data["base_url"], ack_minutes=data["ack_minutes"],
                    snapshot_minutes=data["snapshot_minutes"],
                )  # fmt: skip
            except UserError as error:
                form.add_error(error.field if error.field in form.fields else None, error.message)
            else:
                _tested(request, account, actor)
                return redirect("threepl:settings", code=code)
    context = {
        "account": account,
        "form": form,
        "policy": policy,
        "stored": sorted(name for name, value in (account.credentials or {}).items() if value),
        "hook": f"{settings.BASE_URL}/hooks/3pl/{account.hook_key}/",
        "folder": f"threepl/{account.code}/",
    }
    return page(request, "threepl/settings.html", context, status=status)


@screen("shipping.view")
@require_GET
def file(request: HttpRequest, code: str, file_id: int) -> HttpResponseBase:
    """An order file as it was written, or the error report of a file that was not taken."""
    account = selectors.the_account(request.user, code)
    found = files.find(account, file_id)
    if found.direction == ThreePLFile.Direction.OUT:
        require(request.user, "pii.view", account.warehouse.code)
        response: HttpResponseBase = HttpResponse(
            found.content.encode(), content_type="text/csv; charset=utf-8"
        )
        name = found.name
    else:
        response = StreamingHttpResponse(files.report(found), content_type="text/csv; charset=utf-8")
        name = f"{account.code}-{found.pk}-errors.csv"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "no-store"
    return response


@screen("shipping.work")
@require_POST
def look(request: HttpRequest, code: str) -> HttpResponse:
    """Hand over and drain now, instead of at the next turn."""
    account = selectors.the_account(request.user, code, "shipping.work")
    ring("fulfillment.threepl.tasks.hand_off", str(account.warehouse_id))
    inbound.plan(account.pk, actor=actor_of(request.user))
    if account.pk in calls.due():
        ring("fulfillment.threepl.tasks.drain_calls", str(account.pk))
    flash.success(request, "Everything that waits is being sent.")
    return redirect("threepl:detail", code=code)
