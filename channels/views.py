"""Screens of the channels: overview, one account, listings and mapping, and the panels on orders and SKUs."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from channels import (
    accounts,
    blackbox,
    budgets,
    bulk,
    drift,
    effects,
    forms,
    grid,
    inbox,
    kpis,
    mcf,
    quantities,
    selectors,
    sync,
    tuning,
)
from channels.connectors.base import ChannelError, get_connector
from channels.models import (
    ChannelAccount,
    ChannelEffect,
    Drift,
    InboxMessage,
    Listing,
    LocationMap,
    OversellIncident,
)
from channels.tasks import hook_address
from inventory.models import Sku, Warehouse
from inventory.screens import visible_warehouses
from inventory.selectors import resolve_codes
from oms.core import cells, lists
from oms.core.access import Scope, can, require, scope_of
from oms.core.actor import actor_of
from oms.core.charts import Series
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.errors import NotFound, UserError
from oms.core.paging import keyset_page
from oms.core.screens import back_to, is_fragment, page, screen, toast
from oms.core.words import some
from oms.orders.models import Order, SalesChannel
from oms.orders.serving import Serves, set_serving

LISTING_TABS = (
    ("all", "All"),
    ("unmapped", "Not mapped"),
    ("waiting", "Waiting"),
    ("failed", "Failed"),
    ("drift", "Drift"),
)


@screen("channels.view")
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """Every channel with its health: the one screen to look at when something sells wrong."""
    lines = selectors.health(selectors.visible(request.user))
    total = kpis.sync_latency() if scope_of(request.user, "channels.view").channels is None else None
    return render(
        request,
        "channels/list.html",
        {"lines": lines, "total": total, "may_connect": can(request.user, "channels.manage")},
    )


@screen("channels.view")
@require_GET
def oversell(request: HttpRequest, pk: int) -> HttpResponse:
    """The black box of one oversell: both sales and the pushes between them in milliseconds, and the ways out."""
    scope = scope_of(request.user, "channels.view")
    incident = (
        OversellIncident.objects.filter(scope.q(channel="order__channel__code"), pk=pk)
        .select_related("order__channel", "rival__channel", "sku", "listing")
        .first()
    )
    if incident is None:
        raise NotFound("oversell: there is no such incident.")
    published, available, exposed = quantities.exposure(incident.sku_id)
    return render(
        request,
        "channels/oversell.html",
        {
            "incident": incident,
            "timeline": [{**row, "at": dt.datetime.fromisoformat(row["at"])} for row in incident.timeline],
            "published": published,
            "available": available,
            "exposed": exposed,
        },
    )


@screen("channels.view")
@require_GET
def detail(request: HttpRequest, code: str) -> HttpResponse:
    """One account: latency, what failed, what differs, what is in doubt."""
    account = selectors.the_account(request.user, code)
    labels, lines = kpis.by_hour(account.pk)
    line = selectors.health(ChannelAccount.objects.filter(pk=account.pk).select_related("sales_channel"))[0]
    context = {
        "account": account,
        "line": line,
        "day": kpis.sync_latency(account_id=account.pk),
        "labels": labels,
        "series": [Series(name, values) for name, values in lines.items()],
        "has_pushes": any(value is not None for value in lines["p50"]),
        "budgets": budgets.of_account(account),
        "revisions": budgets.revisions(account),
        "failed": selectors.failed_pushes(account),
        "rows": selectors.open_drifts(account),
        "effects": selectors.open_effects(account),
        "dead": selectors.dead_messages(account),
        "now": now(),
        "may_manage": can(request.user, "channels.manage", channel_code=code),
    }
    return render(request, "channels/detail.html", context)


@screen("channels.view", write="channels.manage")
@require_POST
def act(request: HttpRequest, code: str) -> HttpResponse:
    """What a person does to an account: pause, resume, pull, re-sync, test, import listings, subscribe."""
    account = selectors.the_account(request.user, code, "channels.manage")
    actor, what = actor_of(request.user), request.POST.get("action", "")
    try:
        text = _act(account, what, request, actor)
    except ChannelError as error:
        raise UserError(f"{account.sales_channel.name}: {error.message}") from error
    messages.success(request, text)
    return redirect(back_to(request, reverse("channels:detail", args=[code])))


def _act(account: ChannelAccount, what: str, request: HttpRequest, actor: Any) -> str:
    if what == "pause":
        reason = request.POST.get("reason", "").strip() or request.POST.get("note", "").strip()
        if not reason:
            raise UserError("reason: say why the pushes are paused.", field="reason")
        sync.pause(account.pk, reason, actor=actor)
        return "Pushes are paused. Listings keep the figure they were last told."
    if what == "resume":
        sync.resume(account.pk, actor=actor)
        return "Pushes go out again."
    if what == "pull":
        ring("channels.tasks.pull_account", str(account.pk))
        return "Orders are being read."
    if what == "resync":
        return f"{sync.resync(account.pk, actor=actor)} listings are told again."
    if what == "test":
        tested = accounts.test(account.pk, actor=actor)
        if not tested.ok:
            raise UserError(tested.message)
        return tested.message
    if what == "import":
        found = accounts.import_listings(account.pk, actor=actor)
        return f"{found.created} new listings, {found.mapped} mapped, {found.unmapped} not mapped."
    if what == "subscribe":
        made = accounts.go_live(account.pk, hook_address(account), actor=actor)
        return f"{len(made)} notifications set up." if made else "All notifications are there."
    raise UserError("action: unknown.")


@screen("channels.manage")
@require_http_methods(["GET", "POST"])
def connect(request: HttpRequest) -> HttpResponse:
    """A new channel, proved before it does anything."""
    key = request.GET.get("connector") or request.POST.get("connector") or forms.choices()[0][0]
    connector = accounts.connector_of(key)
    scope = scope_of(request.user, "channels.manage")
    form = forms.ConnectForm(request.POST or None, connector=connector, scope=scope)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            data = form.cleaned_data
            try:
                account = accounts.connect(
                    connector=key, name=data["name"], code=data["code"], prefix=data["order_prefix"],
                    currency=data["currency"], config=form.part("config_"), credentials=form.part("secret_"),
                    warehouse_ids=[warehouse.pk for warehouse in data["warehouses"]], actor=actor_of(request.user),
                )  # fmt: skip
            except UserError as error:
                known = next(
                    (
                        name
                        for name in (error.field, f"config_{error.field}", f"secret_{error.field}")
                        if name in form.fields
                    ),
                    None,
                )
                form.add_error(known, error.message)
            else:
                if connector.capabilities.mapped:
                    return redirect("channels:mapping", code=account.sales_channel.code)
                if connector.capabilities.files:
                    return redirect("channels:layout", code=account.sales_channel.code)
                tested = accounts.test(account.pk, actor=actor_of(request.user))
                (messages.success if tested.ok else messages.error)(request, tested.message)
                return redirect("channels:settings", code=account.sales_channel.code)
    return render(
        request,
        "channels/connect.html",
        {"form": form, "connector": connector, "choices": forms.choices()},
        status=status,
    )


@screen("channels.manage")
@require_http_methods(["GET", "POST"])
def settings(request: HttpRequest, code: str) -> HttpResponse:
    """Credentials (never shown), configuration, the address for webhooks, and locations."""
    account = selectors.the_account(request.user, code, "channels.manage")
    connector = get_connector(account.connector)
    if request.method == "POST" and request.POST.get("part") in PARTS:
        text = PARTS[request.POST["part"]](request, account)
        messages.success(request, text)
        return redirect("channels:settings", code=code)
    if request.method == "POST" and "warehouse" in request.POST:
        place, warehouse = request.POST.get("location", ""), request.POST.get("warehouse", "")
        accounts.map_location(
            account.pk,
            place,
            int(warehouse) if warehouse.isdigit() else 0,
            actor=actor_of(request.user),
            name=request.POST.get("name", ""),
        )
        messages.success(request, "The location is mapped.")
        return redirect("channels:settings", code=code)
    form = forms.SecretsForm(request.POST or None, connector=connector, config=account.config)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                accounts.set_config(account.pk, form.part("config_"), actor=actor_of(request.user))
                if form.part("secret_"):
                    accounts.set_credentials(account.pk, form.part("secret_"), actor=actor_of(request.user))
            except UserError as error:
                form.add_error(None, error.message)
            else:
                tested = accounts.test(account.pk, actor=actor_of(request.user))
                (messages.success if tested.ok else messages.error)(request, tested.message)
                return redirect("channels:settings", code=code)
    context = {
        "account": account,
        "connector": connector,
        "form": form,
        "hook": hook_address(account) if connector.capabilities.webhooks else "",
        "locations": account.locations.select_related("warehouse").order_by("warehouse__code"),
        "stored": [
            spec.label for spec in connector.credential_fields if (account.credentials or {}).get(spec.name)
        ],
        "warehouses": account.sales_channel.warehouses.select_related("warehouse"),
        "places": _places(account, scope_of(request.user, "channels.manage")),
        "heals": _heals(account),
        **(_outbound(account) if connector.capabilities.ships_for_others else {}),
    }
    return render(request, "channels/settings.html", context, status=status)


def _heals(account: ChannelAccount) -> list[dict[str, Any]]:
    """Each cause of a difference, what would mend it, and whether it may happen without asking."""
    policy = account.config.get("auto_heal")
    return [
        {
            "cause": cause, "label": Drift.Cause(cause).label, "how": HEAL_WORDS[heal],
            "possible": heal is not drift.Heal.NOTHING,
            "on": drift.healing(cause, policy) is not drift.Heal.NOTHING,
        }
        for cause, heal in drift.HEALS.items()
    ]  # fmt: skip


#: what is done about a difference, as people say it
HEAL_WORDS = {
    drift.Heal.TELL: "our figure is told again",
    drift.Heal.PULL: "the channel's orders are read at once",
    drift.Heal.DRAIN: "waiting notifications are worked off at once",
    drift.Heal.ACCEPT: "the channel's figure is booked",
    drift.Heal.NOTHING: "a person decides",
}


def _outbound(account: ChannelAccount) -> dict[str, Any]:
    """Whether the channel's own warehouse ships for other channels, and how."""
    partner, forced = mcf.partner_of(account), mcf.forced_neutral()
    others = SalesChannel.objects.filter(account__isnull=False).exclude(pk=account.sales_channel_id)
    return {
        "ships_for_others": True,
        "pool": selectors.pool_of(account),
        "partner": partner,
        "partner_on": partner is not None and partner.state == "connected",
        "neutral": [
            {
                "code": one.code, "name": one.name, "forced": one.code in forced,
                "on": one.code in forced or (partner and one.code in partner.options.get("neutral", ())),
            }
            for one in others.order_by("name")
        ],
    }  # fmt: skip


def _set_healing(request: HttpRequest, account: ChannelAccount) -> str:
    accounts.set_healing(account.pk, request.POST.getlist("auto_heal"), actor=actor_of(request.user))
    return "Saved. It holds from the next reading on."


def _switch_outbound(request: HttpRequest, account: ChannelAccount) -> str:
    actor = actor_of(request.user)
    if request.POST.get("action") == "off":
        mcf.switch_off(account.pk, request.POST.get("reason", ""), actor=actor)
        return "Switched off. What is on its way is followed to its end."
    tested = mcf.switch_on(account.pk, actor=actor)
    if not tested.ok:
        raise UserError(tested.message)
    return "Switched on: orders of other channels may leave from this warehouse."


def _outbound_options(request: HttpRequest, account: ChannelAccount) -> str:
    mcf.set_options(
        account.pk, comment=request.POST.get("comment", ""), neutral=request.POST.getlist("neutral"),
        actor=actor_of(request.user),
    )  # fmt: skip
    return "Saved. It holds for orders that go out from now on."


def _places(account: ChannelAccount, scope: Scope) -> list[dict[str, Any]]:
    """Every active warehouse in the person's scope with what it does for the channel, serving ones first by rank."""
    links = {row.warehouse_id: row for row in account.sales_channel.warehouses.all()}
    rows = [
        {"warehouse": one, "link": links.get(one.pk), "operated": one.kind in quantities.OPERATED}
        for one in Warehouse.objects.filter(scope.q(warehouse="code"), is_active=True).order_by("code")
    ]
    return sorted(rows, key=lambda row: (row["link"] is None, row["link"].rank if row["link"] else 0))


def _set_places(request: HttpRequest, account: ChannelAccount) -> str:
    wanted: dict[int, Serves] = {}
    for row in _places(account, scope_of(request.user, "channels.manage")):
        pk, code = row["warehouse"].pk, row["warehouse"].code
        if f"place_{pk}" not in request.POST:
            continue  # it was not on the screen that was sent
        rank = request.POST.get(f"rank_{pk}", "").strip() or "1"
        if not (rank.isascii() and rank.isdigit() and len(rank) < 6):
            raise UserError(f"rank: {code} needs a whole number; the lowest goes first.", field="rank")
        wanted[pk] = Serves(f"publishes_{pk}" in request.POST, f"fulfils_{pk}" in request.POST, int(rank))
    if not set_serving(account.sales_channel_id, wanted, actor=actor_of(request.user)):
        return "Nothing changed."
    return "Saved. The channel is told within seconds; orders that are not routed yet follow the new table."


PARTS = {
    "warehouses": _set_places,
    "healing": _set_healing,
    "outbound": _switch_outbound,
    "outbound_options": _outbound_options,
}


# --- stock by channel ------------------------------------------------------------------------------


@screen("channels.view")
@require_GET
def stock_grid(request: HttpRequest) -> HttpResponse:
    """The stock grid the other way round: what each channel was told of a SKU."""
    require(request.user, "stock.view")
    query, only = request.GET.get("q", "").strip(), request.GET.get("only", "")
    mine = selectors.visible_listings(request.user, "channels.view")
    shown = list(
        SalesChannel.objects.filter(pk__in=selectors.visible(request.user).values("sales_channel")).order_by(
            "name"
        )
    )
    found = keyset_page(
        grid.skus(mine, query, only), order=("code", "id"), cursor=request.GET.get("cursor", ""), limit=50
    )
    context = {
        "rows": grid.rows(found.items, mine, shown, visible_warehouses(request.user)),
        "next_cursor": found.next_cursor,
        "columns": 4 + len(shown),
        "channels": shown,
        "mine": SalesChannel.objects.filter(
            pk__in=selectors.visible(request.user, "channels.manage").values("sales_channel")
        ).order_by("name"),
        "rules": rules_of_bulk(),
        "q": query,
        "only": only,
        "only_choices": grid.ONLY,
        "filtered": bool(query or only),
        "tabs": [
            {"label": "By warehouse", "url": reverse("inventory:stock"), "count": None, "active": False},
            {"label": "By channel", "url": request.path, "count": None, "active": True},
        ],
    }
    fragment = "channels/_grid_rows.html" if request.GET.get("cursor") else "channels/_grid_results.html"
    return page(request, "channels/grid.html", context, fragment=fragment)


# --- listings --------------------------------------------------------------------------------------


@screen("channels.view")
@require_GET
def listings(request: HttpRequest, code: str) -> HttpResponseBase:
    """The mapping desk: what each listing is told, and which has no SKU behind it."""
    account = selectors.the_account(request.user, code)
    tab, query = request.GET.get("state", "all"), request.GET.get("q", "").strip()
    rows = selectors.find_listings(account, tab, query)
    if lists.wants_csv(request):
        return lists.csv_of(f"listings-{code}", CSV_HEADER, rows.order_by("external_sku", "id"), _csv_row)
    listed = keyset_page(rows, order=("external_sku", "id"), cursor=request.GET.get("cursor", ""), limit=50)
    context = {
        "account": account, "rows": listed.items, "next_cursor": listed.next_cursor, "columns": 10, "q": query,
        "tab": tab, "buffers": {listing.pk: buffer_cell(listing) for listing in listed.items},
        "tabs": [
            {"label": label, "url": f"?state={key}", "count": None, "active": key == tab}
            for key, label in LISTING_TABS
        ],
        "may_manage": can(request.user, "channels.manage", channel_code=code), "rules": rules_of_bulk(),
    }  # fmt: skip
    fragment = (
        "channels/_listing_rows.html" if request.GET.get("cursor") else "channels/_listing_results.html"
    )
    return page(request, "channels/listings.html", context, fragment=fragment)


def rules_of_bulk() -> list[tuple[str, str]]:
    """What the bulk bars offer."""
    return [(name, word) for name, (word, _) in bulk.RULES.items()]


@screen("channels.manage")
@require_POST
def rules(request: HttpRequest) -> HttpResponse:
    """One rule for the chosen listings, the listings of chosen SKUs, or of all that match the list's filters."""
    rule = request.POST.get("rule", "")
    value = bulk.checked(rule, request.POST.get("value", ""))
    code, query = request.POST.get("channel", ""), QueryDict(request.POST.get("query", ""))
    found = selectors.visible_listings(request.user, "channels.manage")
    name = ""
    if code:
        account = selectors.the_account(request.user, code, "channels.manage")
        found, name = found.filter(account=account), account.sales_channel.name
    wanted = [int(one) for one in request.POST.getlist("ids") if one.isdigit() and len(one) < 18][
        : bulk.MOST + 1
    ]
    if request.POST.get("by") == "sku":
        found = found.filter(fulfilment=Listing.Fulfilment.MERCHANT)
        if request.POST.get("all"):
            seen = selectors.visible_listings(request.user, "channels.view")
            found = found.filter(sku__in=grid.skus(seen, query.get("q", "").strip(), query.get("only", "")))
        else:
            found = found.filter(sku__in=wanted)
    elif request.POST.get("all") and code:
        matching = selectors.find_listings(account, query.get("state", "all"), query.get("q", "").strip())
        found = found.filter(pk__in=matching.values("pk"))
    else:
        found = found.filter(pk__in=wanted)
    ids = list(found.order_by("pk").values_list("pk", flat=True).distinct()[: bulk.MOST + 1])
    if not ids:
        raise UserError("listings: choose at least one that you may change.", field="ids")
    done = bulk.begin(rule, ids, value, actor=actor_of(request.user), channel=name)
    if isinstance(done, bulk.Result):
        text, tone = done.sentence(), "warn" if done.skipped else "ok"
    else:
        text, tone = f"{some(len(ids), 'listing')}: working in the background (job {done.pk}).", "ok"
    if is_fragment(request):
        return toast(HttpResponse(status=204), text, tone)
    (messages.success if tone == "ok" else messages.warning)(request, text)
    return redirect(back_to(request))


CSV_HEADER = (
    "channel_sku", "listing_id", "location", "title", "sku", "fulfilment", "state", "pack_size", "buffer",
    "buffer_mode", "buffer_risk", "buffer_why", "percent", "cap", "stop_at", "told", "told_at", "read", "read_at",
    "waiting_since", "refused", "error",
)  # fmt: skip


def _csv_row(one: Listing) -> list[Any]:
    return [
        one.external_sku, one.external_id, one.location_id, one.title, one.sku.code if one.sku else "",
        one.get_fulfilment_display(), one.get_state_display(), one.pack_size, one.buffer,
        one.buffer_mode, one.buffer_risk, one.buffer_why, one.percent, one.cap,
        one.stop_at, one.acked_quantity, lists.stamp(one.acked_at), one.read_quantity, lists.stamp(one.read_at),
        lists.stamp(one.stale_since), one.dead, one.last_error,
    ]  # fmt: skip


def _listing(request: HttpRequest, pk: int, permission: str = "channels.view") -> Listing:
    listing = selectors.visible_listings(request.user, permission).filter(pk=pk).first()
    if listing is None:
        raise NotFound("listing: no such listing.", field="listing")
    return listing


@screen("channels.view", write="channels.manage")
@require_http_methods(["GET", "POST"])
def listing(request: HttpRequest, pk: int) -> HttpResponse:
    """One listing: the sum of its figure, its rules, its mapping and its last pushes."""
    found = _listing(request, pk, "channels.manage" if request.method == "POST" else "channels.view")
    initial = {
        name: getattr(found, name)
        for name in (
            "buffer_mode",
            "buffer",
            "buffer_risk",
            "percent",
            "cap",
            "stop_at",
            "pack_size",
            "preorder_percent",
            "state",
        )
    }
    if request.method == "POST" and request.POST.get("part") == "mcf":
        allowed = request.POST.get("allowed") == "yes"
        mcf.allow(found.pk, allowed, actor=actor_of(request.user))
        messages.success(
            request, "Its stock may serve other channels." if allowed else "Only this channel sells it."
        )
        return redirect("channels:listing", pk=pk)
    form = forms.RulesForm(request.POST or None, initial=initial)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            data = dict(form.cleaned_data)
            state, mode, risk = data.pop("state"), data.pop("buffer_mode"), data.pop("buffer_risk")
            actor = actor_of(request.user)
            tuned = mode == Listing.BufferMode.TUNED
            if tuned:
                data.pop("buffer")
            with transaction.atomic():
                accounts.set_rules(
                    found.pk,
                    actor=actor,
                    clear_cap=data["cap"] is None,
                    clear_preorder=data["preorder_percent"] is None,
                    **data,
                )
                tuning.set_mode(found.pk, mode, risk=risk if tuned else None, actor=actor)
            if state != found.state:
                accounts.set_listing_state(found.pk, state, actor=actor)
            messages.success(request, "Saved. The channel is told within seconds.")
            return redirect("channels:listing", pk=pk)
    context = {
        "listing": found, "account": found.account, "form": form, "shown": quantities.sellable(found.pk),
        "pushes": found.pushes.order_by("-pk")[:20], "drifts": found.drifts.order_by("-pk")[:10],
        "suggestions": [] if found.sku_id else accounts.suggest_skus(found),
        "may_lend": get_connector(found.account.connector).capabilities.ships_for_others,
        "may_manage": can(request.user, "channels.manage", channel_code=found.account.sales_channel.code),
    }  # fmt: skip
    return render(request, "channels/listing.html", context, status=status)


@screen("channels.manage")
@require_http_methods(["GET", "POST"])
def buffer(request: HttpRequest, pk: int) -> HttpResponse:
    """The buffer of a listing, edited in the list."""
    _listing(request, pk, "channels.manage")

    def current() -> cells.Cell:
        return buffer_cell(Listing.objects.get(pk=pk))

    def save(seen: int, new: int) -> bool:
        with transaction.atomic():
            present = Listing.objects.select_for_update().values_list("buffer", flat=True).get(pk=pk)
            if present not in (seen, new):
                return False
            accounts.set_rules(pk, buffer=new, actor=actor_of(request.user))
        return True

    return cells.answer(request, current, save)


def buffer_cell(listing: Listing) -> cells.Cell:
    name = listing.external_sku or listing.external_id
    return cells.Cell(reverse("channels:buffer", args=[listing.pk]), f"Buffer of {name}", listing.buffer)


@screen("channels.manage")
@require_POST
def map_one(request: HttpRequest, pk: int) -> HttpResponse:
    """Put a SKU behind a listing, named by code or alias; empty takes it away."""
    found = _listing(request, pk, "channels.manage")
    code = request.POST.get("sku", "").strip()
    sku_id = None
    if code:
        sku = resolve_codes([code]).get(code)
        if sku is None:
            raise UserError(f"sku: there is no SKU '{code}'.", field="sku")
        sku_id = sku.pk
    accounts.map_listing(found.pk, sku_id, actor=actor_of(request.user))
    messages.success(
        request,
        f"{found.external_sku or found.external_id} is {'mapped to ' + code if code else 'not mapped any more'}.",
    )
    return redirect(back_to(request, reverse("channels:listing", args=[pk])))


@screen("channels.manage")
@require_POST
def retry(request: HttpRequest, pk: int) -> HttpResponse:
    """Tell a listing again."""
    sync.retry_push(_listing(request, pk, "channels.manage").pk, actor=actor_of(request.user))
    messages.success(request, "It is told again.")
    return redirect(back_to(request, reverse("channels:listing", args=[pk])))


@screen("channels.manage")
@require_POST
def drop(request: HttpRequest, pk: int) -> HttpResponse:
    """Stop telling a listing that is refused."""
    sync.drop_push(_listing(request, pk, "channels.manage").pk, actor=actor_of(request.user))
    messages.success(request, "The listing is paused; its figure on the channel stays as it is.")
    return redirect(back_to(request, reverse("channels:listing", args=[pk])))


@screen("channels.manage")
@require_POST
def heal(request: HttpRequest, pk: int) -> HttpResponse:
    """Tell our figure where the channel shows another one."""
    found = Drift.objects.filter(pk=pk).select_related("listing__account__sales_channel").first()
    if found is None:
        raise NotFound("drift: no such difference.")
    require(request.user, "channels.manage", channel_code=found.listing.account.sales_channel.code)
    drift.heal(pk, actor=actor_of(request.user))
    messages.success(request, "Our figure is told again.")
    return redirect(
        back_to(request, reverse("channels:detail", args=[found.listing.account.sales_channel.code]))
    )


@screen("channels.manage")
@require_POST
def accept(request: HttpRequest, pk: int) -> HttpResponse:
    """Leave the channel's figure as it is for a while."""
    found = Drift.objects.filter(pk=pk).select_related("listing__account__sales_channel").first()
    if found is None:
        raise NotFound("drift: no such difference.")
    code = found.listing.account.sales_channel.code
    require(request.user, "channels.manage", channel_code=code)
    text = request.POST.get("hours", "24")
    hours = int(text) if text.isdecimal() and len(text) < 5 else 0
    drift.accept(
        pk, hours=hours, reason=request.POST.get("reason", ""),
        actor=actor_of(request.user),
    )  # fmt: skip
    messages.success(request, f"The channel keeps its {found.theirs} for {some(hours, 'hour')}.")
    return redirect(back_to(request, reverse("channels:drift", args=[code])))


@screen("channels.view")
@require_GET
def drifts(request: HttpRequest, code: str) -> HttpResponse:
    """Where the channel shows another figure than we told: causes over time, the evidence, and what to do."""
    account = selectors.the_account(request.user, code)
    labels, counts = drift.by_day(account.pk)
    cause = request.GET.get("cause", "")
    closed = request.GET.get("state") == "closed"
    rows = Drift.objects.filter(listing__account=account, closed_at__isnull=not closed).select_related(
        "listing__sku"
    )
    if cause in Drift.Cause.values:
        rows = rows.filter(cause=cause)
    listed = keyset_page(rows, order=("-id",), cursor=request.GET.get("cursor", ""), limit=50)
    still = selectors.drift_counts(account)
    policy = account.config.get("auto_heal")
    causes = [
        {
            "key": key, "label": Drift.Cause(key).label, "open": still.get(key, 0), "found": sum(counts.get(key, ())),
            "heals": HEAL_WORDS[drift.healing(key, policy)],
        }
        for key in drift.HEALS
    ]  # fmt: skip
    context = {
        "account": account, "labels": labels, "causes": causes, "cause": cause, "closed": closed,
        "series": [Series(Drift.Cause(key).label, counts[key]) for key in drift.HEALS if key in counts],
        "rows": listed.items, "next_cursor": listed.next_cursor, "columns": 7, "now": now(),
        "tabs": [
            {"label": "Open", "url": "?state=open", "count": sum(still.values()), "active": not closed},
            {"label": "Closed", "url": "?state=closed", "count": None, "active": closed},
        ],
        "may_manage": can(request.user, "channels.manage", channel_code=code),
    }  # fmt: skip
    fragment = "channels/_drift_rows.html" if request.GET.get("cursor") else "channels/_drift_results.html"
    return page(request, "channels/drift.html", context, fragment=fragment)


@screen("channels.manage")
@require_POST
def effect(request: HttpRequest, pk: int) -> HttpResponse:
    """Decide an effect in doubt: it happened, it did not, or try again."""
    found = ChannelEffect.objects.filter(pk=pk).select_related("account__sales_channel").first()
    if found is None:
        raise NotFound("effect: no such effect.")
    require(request.user, "channels.manage", channel_code=found.account.sales_channel.code)
    actor, what = actor_of(request.user), request.POST.get("action", "")
    if what == "retry":
        effects.retry(pk, actor=actor)
    elif what in ("happened", "not_happened"):
        effects.decide(
            pk,
            happened=what == "happened",
            external_id=request.POST.get("external_id", "")[:120],
            actor=actor,
        )
    else:
        raise UserError("action: use retry, happened or not_happened.")
    messages.success(request, f"{found.reference}: noted.")
    return redirect(back_to(request, reverse("channels:detail", args=[found.account.sales_channel.code])))


@screen("channels.manage")
@require_POST
def message(request: HttpRequest, pk: int) -> HttpResponse:
    """Work a message off again that gave up, or ignore it."""
    found = InboxMessage.objects.filter(pk=pk).select_related("account__sales_channel").defer("body").first()
    if found is None:
        raise NotFound("message: no such message.")
    require(request.user, "channels.manage", channel_code=found.account.sales_channel.code)
    work = inbox.ignore if request.POST.get("action") == "ignore" else inbox.replay
    work(pk, actor=actor_of(request.user))
    messages.success(request, "Done.")
    return redirect(back_to(request, reverse("channels:detail", args=[found.account.sales_channel.code])))


@screen("channels.manage")
@require_POST
def look_again(request: HttpRequest, order_id: int) -> HttpResponse:
    """Write the black box of an order that could not be looked into."""
    order = Order.objects.filter(pk=order_id).select_related("channel").first()
    if order is None:
        raise NotFound("order: no such order.")
    require(request.user, "channels.manage", channel_code=order.channel.code)
    blackbox.look_again(order.pk, actor=actor_of(request.user))
    messages.success(request, "It is looked into again.")
    return redirect(back_to(request, reverse("channels:detail", args=[order.channel.code])))


# --- panels ----------------------------------------------------------------------------------------


@screen("orders.view")
@require_GET
def order_panel(request: HttpRequest, order_id: int) -> HttpResponse:
    """What was told to the channel about an order, and whether it shows it."""
    scope = scope_of(request.user, "orders.view")
    order = (
        Order.objects.filter(scope.q(channel="channel__code"), pk=order_id).select_related("channel").first()
    )
    if order is None:
        raise NotFound("order: no such order.")
    told = ChannelEffect.objects.filter(order=order).select_related("account__sales_channel").order_by("pk")
    received = (
        InboxMessage.objects.filter(account__sales_channel=order.channel_id, external_id=order.external_id)
        .defer("body")
        .order_by("-pk")[:10]
    )
    may = can(request.user, "channels.manage", channel_code=order.channel.code)
    return render(
        request,
        "channels/_order_panel.html",
        {"order": order, "effects": told, "received": received, "may_manage": may},
    )


@screen("stock.view")
@require_GET
def sku_panel(request: HttpRequest, sku_id: int) -> HttpResponse:
    """What each channel is told of a SKU, what it should show, and the exposure over all of them."""
    sku = Sku.objects.filter(pk=sku_id).first()
    if sku is None:
        raise NotFound("sku: no such SKU.")
    rows = list(
        selectors.visible_listings(request.user, "stock.view")
        .filter(sku=sku)
        .order_by("account__sales_channel__name", "pk")
    )
    shown = quantities.compute(
        quantities.facts(
            quantities.live_listings()
            .filter(pk__in=[row.pk for row in rows])
            .values_list(*quantities.FACT_FIELDS)
        )
    )
    pushes = selectors.last_pushes([row.pk for row in rows])
    # a channel that counts per location has one listing for each: they are told apart by our warehouse
    places = {
        (account, external): code
        for account, external, code in LocationMap.objects.filter(
            account__in={row.account_id for row in rows if row.location_id}
        ).values_list("account", "external_id", "warehouse__code")
    }
    lines = [
        {
            "listing": row,
            "shown": shown.get(row.pk),
            "push": pushes.get(row.pk),
            "place": places.get((row.account_id, row.location_id), ""),
        }
        for row in rows
    ]
    published, available, exposure = quantities.exposure(sku.pk) if rows else (0, 0, 0)
    context = {"sku": sku, "lines": lines, "published": published, "available": available, "exposure": exposure,
               "may_manage": can(request.user, "channels.manage")}  # fmt: skip
    return render(request, "channels/_sku_panel.html", context)
