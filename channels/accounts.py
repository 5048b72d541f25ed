"""Connecting a channel: credentials with a live test, locations, onboarding of its listings, mapping.

The same functions serve the screens, the API, the admin and the commands.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q

from channels.connectors.base import (
    ChannelError,
    Connector,
    ListingPage,
    RemoteListing,
    Retry,
    ShopFacts,
    get_connector,
)
from channels.drift import HEALS, Heal
from channels.models import ChannelAccount, Listing, LocationMap
from channels.pushing import mark_listings, tell_rivals
from channels.session import do, proved
from inventory.models import Sku, Warehouse
from inventory.selectors import found_by, resolve_codes
from oms.core import limits
from oms.core.actor import Actor
from oms.core.audit import record
from oms.core.clock import now
from oms.core.doorbell import ring
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.exceptions_inbox import close_item, raise_item
from oms.orders.models import OrderLine, SalesChannel
from oms.orders.services import map_external_sku
from oms.orders.serving import Serves, set_serving

State = ChannelAccount.State


def connector_of(key: str) -> Connector:
    """Raises `UserError` for an unknown connector."""
    try:
        return get_connector(key)
    except KeyError as error:
        raise UserError(f"connector: {error.args[0]}.", field="connector") from error


def _account(account_id: int) -> ChannelAccount:
    account = ChannelAccount.objects.select_related("sales_channel").filter(pk=account_id).first()
    if account is None:
        raise NotFound("account: no such channel account.", field="account")
    return account


# --- connecting ------------------------------------------------------------------------------------


def connect(
    *,
    connector: str,
    name: str,
    code: str,
    config: Mapping[str, Any],
    credentials: Mapping[str, Any],
    actor: Actor,
    prefix: str = "SO",
    currency: str = "USD",
    warehouse_ids: Sequence[int] = (),
) -> ChannelAccount:
    """Make a sales channel with its account. It stays in set-up until `test` proves the connection.

    `warehouse_ids` in order of preference: published to the channel and serving it.
    Raises `UserError` naming the field, `Conflict` for a code in use.
    """
    connector_of(connector)
    if not name.strip():
        raise UserError("name: give the channel a name, for example 'Shopify US'.", field="name")
    if SalesChannel.objects.filter(code=code).exists():
        raise Conflict(f"code: '{code}' is in use by another channel.", field="code")
    with transaction.atomic():
        channel = SalesChannel.objects.create(
            code=code, name=name.strip()[:80], kind=connector, prefix=prefix[:4], currency=currency,
            pii_days=30 if connector == "amazon" else None,
        )  # fmt: skip
        served = {place: Serves(True, True, rank) for rank, place in enumerate(warehouse_ids, 1)}
        set_serving(channel.pk, served, actor=actor)
        return attach(channel.pk, connector=connector, config=config, credentials=credentials, actor=actor)


def attach(
    channel_id: int,
    *,
    connector: str,
    config: Mapping[str, Any],
    credentials: Mapping[str, Any],
    actor: Actor,
) -> ChannelAccount:
    """Give an existing sales channel its account. Raises `UserError` naming the field, `Conflict` when it has one."""
    port = connector_of(connector)
    clean = port.check_config(config)
    given = _checked_credentials(port, credentials)
    if ChannelAccount.objects.filter(sales_channel=channel_id).exists():
        raise Conflict("channel: it has an account already; change its credentials instead.", field="channel")
    with transaction.atomic():
        account = ChannelAccount.objects.create(
            sales_channel_id=channel_id, connector=connector, config=clean, credentials=given
        )
        record(actor, "channel.connected", account, after={"connector": connector, "config": clean})
    return account


def _checked_credentials(port: Connector, credentials: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.name for field in port.credential_fields}
    unknown = sorted(set(credentials) - known)
    if unknown:
        raise UserError(
            f"credentials: '{unknown[0]}' is unknown; {port.name} needs {', '.join(sorted(known))}.",
            field=unknown[0],
        )
    for field in port.credential_fields:
        if field.required and not str(credentials.get(field.name, "")).strip():
            raise UserError(f"{field.name}: {field.label} is needed.", field=field.name)
    return {name: str(value).strip() for name, value in credentials.items() if str(value).strip()}


def set_credentials(account_id: int, credentials: Mapping[str, Any], *, actor: Actor) -> ChannelAccount:
    """Replace credentials; fields left empty keep what is stored. A replaced webhook secret stays valid as previous.

    Values are never shown again or written to the audit trail.
    """
    account = _account(account_id)
    port = connector_of(account.connector)
    given = {name: value for name, value in credentials.items() if str(value).strip()}
    before = dict(account.credentials or {})
    merged = {**before, **given}
    if "client_secret" in given and before.get("client_secret") not in (None, given["client_secret"]):
        if any(field.name == "previous_client_secret" for field in port.credential_fields):
            merged["previous_client_secret"] = before["client_secret"]
    with transaction.atomic():
        account.credentials, account.tokens, account.tokens_expire_at = (
            _checked_credentials(port, merged),
            {},
            None,
        )
        account.save(update_fields=["credentials", "tokens", "tokens_expire_at"])
        record(actor, "channel.credentials", account, after={"changed": sorted(given)})
    for suffix in ("", ":token", ":queue"):
        limits.reset_breaker(f"channel:{account_id}{suffix}")
    return account


def set_config(account_id: int, config: Mapping[str, Any], *, actor: Actor) -> ChannelAccount:
    """Change configuration values. Raises `UserError` naming the field."""
    account = _account(account_id)
    before = dict(account.config)
    clean = connector_of(account.connector).check_config({**before, **config})
    if "auto_heal" in before:
        clean["auto_heal"] = before["auto_heal"]  # ours, not the connector's
    with transaction.atomic():
        account.config = clean
        account.save(update_fields=["config"])
        record(actor, "channel.config", account, before=before, after=clean)
    return account


def set_healing(account_id: int, causes: Iterable[str], *, actor: Actor) -> ChannelAccount:
    """Which differences are mended without asking (`drift.HEALS` says how). Raises `UserError` naming the field."""
    wanted = set(causes)
    known = [cause for cause, heal in HEALS.items() if heal is not Heal.NOTHING]
    unknown = sorted(wanted - set(known))
    if unknown:
        raise UserError(
            f"auto_heal: '{unknown[0]}' cannot be mended by itself; use {', '.join(known)}.",
            field="auto_heal",
        )
    account = _account(account_id)
    before = account.config.get("auto_heal", True)
    after = [cause for cause in known if cause in wanted]
    with transaction.atomic():
        account.config = {**account.config, "auto_heal": after}
        account.save(update_fields=["config"])
        record(actor, "channel.healing", account, before={"auto_heal": before}, after={"auto_heal": after})
    return account


@dataclass(frozen=True, slots=True)
class Tested:
    """Result of a connection test, with the reason in words when it failed."""

    ok: bool
    message: str
    facts: ShopFacts | None = None


def test(account_id: int, *, actor: Actor) -> Tested:
    """Ask the channel who we are. Success connects the account; a refusal says what to mend."""
    account = _account(account_id)
    for suffix in ("", ":token"):
        limits.reset_breaker(f"channel:{account_id}{suffix}")
    try:
        facts = do(account_id, lambda connector, access: connector.probe(access))
    except ChannelError as error:
        words = (
            "The channel refuses these credentials."
            if error.kind is Retry.AUTH
            else "The channel did not answer."
        )
        return Tested(False, f"{words} {error.message}")
    proved(account_id)
    record(actor, "channel.tested", account)
    return Tested(True, f"{facts.name} answers.", facts)


def disable(account_id: int, *, actor: Actor) -> ChannelAccount:
    """Stop everything with this account: no pushes, no pulls, notifications are refused."""
    account = _account(account_id)
    with transaction.atomic():
        ChannelAccount.objects.filter(pk=account_id).update(
            state=State.DISABLED, state_reason="disabled by a person"
        )
        record(actor, "channel.disabled", account)
    account.refresh_from_db()
    return account


def go_live(account_id: int, address: str, *, actor: Actor) -> list[str]:
    """Ask the channel for its notifications and for the orders so far. Raises `ChannelError`."""
    made = do(account_id, lambda connector, access: connector.ensure_subscriptions(access, address))
    record(actor, "channel.subscribed", _account(account_id), after={"topics": [one.topic for one in made]})
    ring("channels.tasks.pull_account", str(account_id))
    return [one.topic for one in made]


# --- locations -------------------------------------------------------------------------------------


def map_location(
    account_id: int, external_id: str, warehouse_id: int, *, actor: Actor, name: str = ""
) -> LocationMap:
    """The channel's location is this warehouse. Its listings are told within the sync target.

    Raises `UserError`, `NotFound`.
    """
    account = _account(account_id)
    warehouse = Warehouse.objects.filter(pk=warehouse_id).first()
    if warehouse is None:
        raise UserError("warehouse: choose one of your warehouses.", field="warehouse")
    external_id = connector_of(account.connector).place_id(external_id)
    if not external_id:
        raise UserError("location: give the channel's location id.", field="location")
    with transaction.atomic():
        entry, _ = LocationMap.objects.update_or_create(
            account=account,
            warehouse=warehouse,
            defaults={"external_id": external_id[:120], "name": name[:120]},
        )
        record(
            actor, "channel.location", account, after={"location": external_id, "warehouse": warehouse.code}
        )
    mark_listings(Listing.objects.filter(account=account, location_id=entry.external_id), anew=True)
    return entry


# --- listings --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Imported:
    """What an import of listings found."""

    created: int = 0
    updated: int = 0
    mapped: int = 0
    unmapped: int = 0
    ended: int = 0


def import_listings(account_id: int, *, actor: Actor) -> Imported:
    """Read every offer of the account, create or refresh its listing, and map it by SKU code or alias.

    A SKU code changed on the channel is recognised by the listing's id: the mapping stays. Offers that are gone
    are marked as ended. Raises `ChannelError`, also for pages that lead back to one already read or never end;
    what was read before it stays, and nothing is marked as ended.
    """
    account = _account(account_id)
    started, result, cursor = now(), Imported(), ""
    seen: set[tuple[str, str]] = set()
    asked: set[str] = set()
    stuck = False
    while cursor not in asked and len(asked) < MAX_LISTING_PAGES:
        asked.add(cursor)
        page = _page(account_id, cursor)
        _store(account, page.listings, result)
        before = len(seen)
        seen |= {(one.external_id, one.location_id) for one in page.listings}
        cursor = page.cursor
        stuck = bool(
            cursor and page.listings and len(seen) == before
        )  # the same page under ever new addresses
        if stuck:
            break
        if not cursor:
            break
    if cursor:
        raise ChannelError(Retry.REJECTED, _endless(stuck or cursor in asked, len(asked)))
    gone = [
        row.pk
        for row in Listing.objects.filter(account=account).exclude(state=Listing.State.ENDED)
        if (row.external_id, row.location_id) not in seen
    ]
    result.ended = Listing.objects.filter(pk__in=gone).update(state=Listing.State.ENDED)
    record(actor, "channel.listings_imported", account, after={**_plain(result), "started": started})
    _watch_unmapped(account)
    return result


#: half a million listings at a hundred a page: whatever goes on after that is no catalogue
MAX_LISTING_PAGES = 5_000


def _endless(loop: bool, pages: int) -> str:
    why = (
        "names a page again that was read before"
        if loop
        else f"still names a further page after {pages:,} pages"
    )
    return (
        f"The channel {why}. The listings read so far are kept and none is marked as ended; "
        "check how the channel names its further pages."
    )


#: a full catalogue uses up the channel's budget; the next page waits as told, at most so often and so long
PAGE_TRIES, PAGE_WAIT = 40, 5.0


def _page(account_id: int, cursor: str) -> ListingPage:
    for _ in range(PAGE_TRIES):
        try:
            return do(account_id, lambda connector, access: connector.list_listings(access, cursor))
        except ChannelError as error:
            if error.kind is not Retry.THROTTLED:
                raise
            time.sleep(min(error.retry_after or 1.0, PAGE_WAIT))
    return do(account_id, lambda connector, access: connector.list_listings(access, cursor))


def _plain(result: Imported) -> dict[str, int]:
    return {name: getattr(result, name) for name in ("created", "updated", "mapped", "unmapped", "ended")}


def _store(account: ChannelAccount, found: Sequence[RemoteListing], result: Imported) -> None:
    known = {
        (row.external_id, row.location_id): row
        for row in Listing.objects.filter(account=account, external_id__in={one.external_id for one in found})
    }
    skus = resolve_codes({one.external_sku for one in found if one.external_sku})
    fresh: list[Listing] = []
    newly_mapped: list[int] = []
    at = now()
    with transaction.atomic():
        for one in found:
            sku = skus.get(one.external_sku)
            values: dict[str, Any] = {
                "external_sku": one.external_sku[:120], "title": one.title[:255], "variant_id": one.variant_id[:120],
                "fulfilment": Listing.Fulfilment.CHANNEL if one.fulfilled_by_channel else Listing.Fulfilment.MERCHANT,
                "data": dict(one.data), "read_quantity": one.quantity,
                "read_at": at if one.quantity is not None else None,
            }  # fmt: skip
            row = known.get((one.external_id, one.location_id))
            if row is None:
                state = Listing.State.ACTIVE if one.active else Listing.State.ENDED
                fresh.append(
                    Listing(
                        account=account,
                        external_id=one.external_id[:120],
                        location_id=one.location_id[:120],
                        sku=sku,
                        state=state,
                        **values,
                    )
                )
                result.created += 1
                result.mapped += sku is not None
                result.unmapped += sku is None
                continue
            result.updated += 1
            if row.state == Listing.State.ENDED and one.active:
                values["state"] = Listing.State.ACTIVE
            elif not one.active:
                values["state"] = Listing.State.ENDED
            if row.sku_id is None and sku is not None:
                values["sku"] = sku
                newly_mapped.append(row.pk)
            result.mapped += bool(row.sku_id or sku)
            result.unmapped += not (row.sku_id or sku)
            Listing.objects.filter(pk=row.pk).update(**values)
        Listing.objects.bulk_create(fresh)
    created = [row.pk for row in fresh if row.sku_id]
    mark_listings(
        Listing.objects.filter(
            pk__in=[*created, *newly_mapped],
            fulfilment=Listing.Fulfilment.MERCHANT,
            state=Listing.State.ACTIVE,
        ),
        anew=True,
    )


def unmapped(account_id: int | None = None) -> Any:
    """Listings without a SKU that sell something: the figure on the dashboard."""
    rows = Listing.objects.filter(sku__isnull=True, state=Listing.State.ACTIVE).filter(
        Q(read_quantity__gt=0) | Q(read_quantity__isnull=True)
    )
    return rows if account_id is None else rows.filter(account=account_id)


def _watch_unmapped(account: ChannelAccount) -> None:
    count = unmapped(account.pk).count()
    key = f"channel:unmapped:{account.pk}"
    code = account.sales_channel.code
    if count:
        are = "listing is" if count == 1 else "listings are"
        raise_item(
            "listing_unmapped", key, f"{account.sales_channel.name}: {count} {are} not mapped to a SKU",
            detail="They sell without stock behind them. Map each to a SKU, or end it on the channel.",
            object_url=f"/channels/{code}/listings/?state=unmapped", channel_code=code,
        )  # fmt: skip
    else:
        close_item(key, "every listing is mapped")


def map_listing(listing_id: int, sku_id: int | None, *, actor: Actor, repair_orders: bool = True) -> Listing:
    """Put a SKU behind a listing, or take it away. Waiting order lines of its code follow.

    Raises `NotFound`, `UserError` for a SKU that cannot be sold.
    """
    listing = Listing.objects.select_related("account__sales_channel", "sku").filter(pk=listing_id).first()
    if listing is None:
        raise NotFound("listing: no such listing.", field="listing")
    sku = None
    if sku_id is not None:
        sku = (
            Sku.objects.filter(pk=sku_id, is_active=True, merged_into__isnull=True)
            .exclude(kind=Sku.Kind.SERVICE)
            .first()
        )
        if sku is None:
            raise UserError("sku: choose an active SKU that has stock.", field="sku")
    before = str(listing.sku or "")
    with transaction.atomic():
        Listing.objects.filter(pk=listing_id).update(sku=sku)
        record(actor, "listing.mapped", listing, before={"sku": before}, after={"sku": str(sku or "")})
    if sku is not None:
        mark_listings(
            Listing.objects.filter(pk=listing_id, fulfilment=Listing.Fulfilment.MERCHANT),
            forget=True,
            anew=True,
        )
        waiting = OrderLine.objects.filter(
            order__channel=listing.account.sales_channel_id,
            external_sku=listing.external_sku,
            sku__isnull=True,
        )
        if repair_orders and listing.external_sku and waiting.exists():
            map_external_sku(
                channel=listing.account.sales_channel,
                external_sku=listing.external_sku,
                sku_id=sku.pk,
                pack_size=listing.pack_size,
                remember=False,
                actor=actor,
            )
    _watch_unmapped(listing.account)
    listing.refresh_from_db()
    return listing


def set_rules(
    listing_id: int,
    *,
    actor: Actor,
    buffer: int | None = None,
    percent: int | None = None,
    cap: int | None = None,
    clear_cap: bool = False,
    stop_at: int | None = None,
    pack_size: int | None = None,
    preorder_percent: int | None = None,
    clear_preorder: bool = False,
) -> Listing:
    """Change what holds a listing's figure back; the channel is told within the sync target. A buffer given by a person
    stays: no measurement changes it from then on.

    Raises `NotFound`, `UserError` naming the field.
    """
    listing = Listing.objects.filter(pk=listing_id).first()
    if listing is None:
        raise NotFound("listing: no such listing.", field="listing")
    wanted = {
        "buffer": buffer, "percent": percent, "cap": cap, "stop_at": stop_at, "pack_size": pack_size,
        "preorder_percent": preorder_percent,
    }  # fmt: skip
    changes: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    for name, value in changes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0 or value > 1_000_000:
            raise UserError(f"{name}: use a whole number of 0 or more.", field=name)
    if changes.get("percent", 0) > 100:
        raise UserError("percent: use 0 to 100.", field="percent")
    if changes.get("pack_size", 1) < 1:
        raise UserError("pack_size: a pack holds at least 1.", field="pack_size")
    if not 1 <= changes.get("preorder_percent", 1) <= 100:
        raise UserError(
            "preorder_percent: use 1 to 100, or leave it empty to sell stock.", field="preorder_percent"
        )
    if clear_cap:
        changes["cap"] = None
    if clear_preorder:
        changes["preorder_percent"] = None
    if "buffer" in changes and listing.buffer_mode != Listing.BufferMode.FIXED:
        changes |= {"buffer_mode": Listing.BufferMode.FIXED.value, "buffer_risk": None, "buffer_why": ""}
    before = {name: getattr(listing, name) for name in changes}
    if before == changes:
        return listing
    with transaction.atomic():
        Listing.objects.filter(pk=listing_id).update(**changes)
        record(actor, "listing.rules", listing, before=before, after=changes)
        mark_listings(
            Listing.objects.filter(pk=listing_id, sku__isnull=False, fulfilment=Listing.Fulfilment.MERCHANT)
        )
        if "preorder_percent" in changes and listing.sku_id:
            # it leaves the stock to others, or takes its part of it; what comes is shared anew
            tell_rivals({listing.sku_id}, now())
    listing.refresh_from_db()
    return listing


def set_listing_state(listing_id: int, state: str, *, actor: Actor) -> Listing:
    """Pause or resume one listing's quantity. Raises `NotFound`, `UserError`."""
    if state not in (Listing.State.ACTIVE, Listing.State.PAUSED):
        raise UserError("state: use active or paused.", field="state")
    listing = Listing.objects.filter(pk=listing_id).first()
    if listing is None:
        raise NotFound("listing: no such listing.", field="listing")
    with transaction.atomic():
        Listing.objects.filter(pk=listing_id).update(state=state)
        record(actor, f"listing.{state}", listing, before={"state": listing.state}, after={"state": state})
        if state == Listing.State.ACTIVE:
            mark_listings(Listing.objects.filter(pk=listing_id, sku__isnull=False), forget=True, anew=True)
    listing.refresh_from_db()
    return listing


def suggest_skus(listing: Listing, limit: int = 5) -> list[Sku]:
    """SKUs whose code or title resembles the listing's, best first."""
    words = [
        word
        for word in (listing.external_sku or listing.title).replace("-", " ").replace("_", " ").split()
        if len(word) > 1
    ]
    if not words:
        return []
    where = Q()
    for word in words[:6]:
        where |= found_by(word, anywhere=1)
    found = list(
        Sku.objects.filter(where, is_active=True, merged_into__isnull=True).exclude(kind=Sku.Kind.SERVICE)[
            :200
        ]
    )

    def score(sku: Sku) -> int:
        text = f"{sku.code} {sku.title}".lower()
        return -sum(word.lower() in text for word in words)

    return sorted(found, key=lambda sku: (score(sku), sku.code))[:limit]
