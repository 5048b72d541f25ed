"""What the screens and the API read about channels."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Max, Q, QuerySet

from channels import accounts, kpis
from channels.connectors.base import Capabilities, get_connector
from channels.models import (
    ChannelAccount,
    ChannelEffect,
    Drift,
    InboxMessage,
    Listing,
    LocationMap,
    StockPush,
)
from inventory.models import Warehouse
from oms.core.access import scope_of
from oms.core.clock import now
from oms.core.errors import NotFound


def visible(principal: Any, permission: str = "channels.view") -> QuerySet[ChannelAccount]:
    """The accounts a user or token may see."""
    scope = scope_of(principal, permission)
    return ChannelAccount.objects.filter(scope.q(channel="sales_channel__code")).select_related(
        "sales_channel"
    )


def visible_listings(principal: Any, permission: str = "channels.view") -> QuerySet[Listing]:
    scope = scope_of(principal, permission)
    return Listing.objects.filter(scope.q(channel="account__sales_channel__code")).select_related(
        "account__sales_channel", "sku"
    )


def find_listings(account: ChannelAccount, tab: str, query: str) -> QuerySet[Listing]:
    """Listings of an account by trouble (a tab of its screen) and by SKU, title or id."""
    rows = Listing.objects.filter(account=account).select_related("sku")
    if tab == "unmapped":
        rows = rows.filter(sku__isnull=True, state=Listing.State.ACTIVE)
    elif tab == "waiting":
        rows = rows.filter(stale_since__isnull=False, sku__isnull=False)
    elif tab == "failed":
        rows = rows.filter(stale_since__isnull=False).filter(Q(dead=True) | Q(attempts__gt=0))
    elif tab == "drift":
        rows = rows.filter(drifts__closed_at__isnull=True, drifts__isnull=False)
    if query:
        rows = rows.filter(
            Q(external_sku__icontains=query)
            | Q(title__icontains=query)
            | Q(sku__code__iexact=query)
            | Q(external_id=query)
        )
    return rows


def the_account(principal: Any, code: str, permission: str = "channels.view") -> ChannelAccount:
    """Raises `NotFound` for an unknown channel and for one that the person may not see."""
    account = visible(principal, permission).filter(sales_channel__code=code).first()
    if account is None:
        raise NotFound("channel: there is no such channel.", field="channel")
    return account


@dataclass(frozen=True, slots=True)
class Health:
    """One line of the channels overview."""

    account: ChannelAccount
    latency: kpis.Latency
    queue: int
    failed: int
    drift: int
    unmapped: int
    inbox_waiting: int
    inbox_dead: int
    effects_open: int
    effects_trouble: int

    @property
    def code(self) -> str:
        return self.account.sales_channel.code

    @property
    def word(self) -> tuple[str, str]:
        """(tone, word) of the state a person should see first."""
        state = ChannelAccount.State
        if self.account.state == state.NEEDS_AUTH:
            return "bad", "Needs authorisation"
        if self.account.state == state.DISABLED:
            return "muted", "Disabled"
        if self.account.state == state.SETUP:
            return "info", "Being set up"
        if self.account.pushes_paused_at:
            return "warn", "Paused"
        if self.latency.p95 is not None and self.latency.p95 > kpis.TARGET_MS:
            return "bad", "Late"
        if self.failed or self.effects_trouble or self.inbox_dead:
            return "warn", "Needs a look"
        return "ok", "OK"

    @property
    def token(self) -> str:
        if self.account.tokens_expire_at is None:
            return "does not expire" if self.account.state == ChannelAccount.State.CONNECTED else "–"
        return "ok" if self.account.tokens_expire_at > now() else "renewed at next use"

    @property
    def unfinished(self) -> list[str]:
        """Pulls that were too long for one turn and go on, each as a sentence."""
        found = []
        for page, what in (
            (self.account.orders_page, "Orders are being read"),
            (self.account.week_page, "Orders of the last week are being read again"),
            (self.account.pool_page, "Figures of its warehouse are being read"),
        ):
            if page:
                at = dt.datetime.fromisoformat(page["began"])
                read = page.get("pages", 0)
                pages = f"{read:,} page{'' if read == 1 else 's'}"
                found.append(f"{what} since {at:%Y-%m-%d %H:%M} UTC: {pages} so far, more to come.")
        return found

    @property
    def capabilities(self) -> Capabilities:
        return get_connector(self.account.connector).capabilities


def _counts(rows: QuerySet[Any], field: str) -> dict[int, int]:
    return dict(rows.order_by().values(field).annotate(n=Count("pk")).values_list(field, "n"))


def health(
    accounts_shown: QuerySet[ChannelAccount], window: dt.timedelta = dt.timedelta(hours=1)
) -> list[Health]:
    """Every account with its figures; a fixed number of queries."""
    latencies = kpis.by_account(window)
    live = Listing.objects.filter(
        sku__isnull=False, state=Listing.State.ACTIVE, fulfilment=Listing.Fulfilment.MERCHANT
    )
    queue = _counts(live.filter(stale_since__isnull=False, dead=False), "account")
    failed = _counts(live.filter(Q(dead=True) | Q(attempts__gt=0, stale_since__isnull=False)), "account")
    drift = _counts(Drift.objects.filter(closed_at__isnull=True), "listing__account")
    unmapped = _counts(accounts.unmapped(), "account")
    waiting = _counts(InboxMessage.objects.filter(state=InboxMessage.State.RECEIVED), "account")
    dead = _counts(InboxMessage.objects.filter(state=InboxMessage.State.DEAD), "account")
    state = ChannelEffect.State
    open_effects = _counts(ChannelEffect.objects.filter(state__in=(state.PLANNED, state.SENT)), "account")
    trouble = _counts(ChannelEffect.objects.filter(state__in=(state.IN_DOUBT, state.REJECTED)), "account")
    return [
        Health(
            account, latencies.get(account.pk, kpis.Latency()), queue.get(account.pk, 0), failed.get(account.pk, 0),
            drift.get(account.pk, 0), unmapped.get(account.pk, 0), waiting.get(account.pk, 0), dead.get(account.pk, 0),
            open_effects.get(account.pk, 0), trouble.get(account.pk, 0),
        )
        for account in accounts_shown.order_by("sales_channel__name", "pk")
    ]  # fmt: skip


def failed_pushes(account: ChannelAccount, limit: int = 50) -> list[Listing]:
    """Listings the channel refuses or that do not get through, given-up ones first."""
    rows = Listing.objects.filter(account=account, stale_since__isnull=False).filter(
        Q(dead=True) | Q(attempts__gt=0)
    )
    return list(rows.select_related("sku").order_by("-dead", "next_attempt_at", "pk")[:limit])


def open_drifts(account: ChannelAccount, limit: int = 50) -> list[Drift]:
    rows = Drift.objects.filter(listing__account=account, closed_at__isnull=True).select_related(
        "listing__sku"
    )
    return list(rows.order_by("found_at")[:limit])


def drift_counts(account: ChannelAccount) -> dict[str, int]:
    """Open differences of an account per cause."""
    rows = Drift.objects.filter(listing__account=account, closed_at__isnull=True)
    return dict(rows.order_by().values("cause").annotate(n=Count("pk")).values_list("cause", "n"))


def open_effects(account: ChannelAccount, limit: int = 50) -> list[ChannelEffect]:
    """Effects that a person may have to decide, then those on their way."""
    state = ChannelEffect.State
    rows = (
        ChannelEffect.objects.filter(account=account)
        .exclude(state=state.CONFIRMED)
        .select_related("order__channel")
    )
    return sorted(
        rows.order_by("-pk")[:limit],
        key=lambda one: (one.state not in (state.IN_DOUBT, state.REJECTED), one.pk),
    )


def dead_messages(account: ChannelAccount, limit: int = 50) -> list[InboxMessage]:
    rows = InboxMessage.objects.filter(account=account, state=InboxMessage.State.DEAD).defer("body")
    return list(rows.order_by("-pk")[:limit])


def last_pushes(listing_ids: list[int]) -> dict[int, StockPush]:
    """The newest push of each listing."""
    newest = (
        StockPush.objects.filter(listing__in=listing_ids)
        .order_by()
        .values("listing")
        .annotate(newest=Max("pk"))
        .values_list("newest", flat=True)
    )
    return {push.listing_id: push for push in StockPush.objects.filter(pk__in=list(newest))}


def pool_of(account: ChannelAccount) -> Warehouse | None:
    """The FBA or WFS warehouse that stands for the account's pool, by its location map."""
    entry = LocationMap.objects.filter(
        account=account, warehouse__kind__in=(Warehouse.Kind.FBA, Warehouse.Kind.WFS)
    ).select_related("warehouse").first()  # fmt: skip
    return entry.warehouse if entry else None
