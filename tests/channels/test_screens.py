"""Screens and API of the channels: what people see, and who may see it."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from channels.models import ChannelAccount, ChannelEffect, Drift, InboxMessage, Listing, StockPush
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.orders.intake import take
from tests.factories import T0, line_draft, make_channel, make_sku, make_user, make_warehouse, order_draft

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> ChannelAccount:
    warehouse = make_warehouse("EAST")
    channel = make_channel("shop-us", warehouse)
    account = ChannelAccount.objects.create(
        sales_channel=channel, connector="shopify", config={"shop": "acme.myshopify.com"}, state="connected",
        credentials={"access_token": "shpat_secret_value", "client_secret": "hush_hush_value"},
    )  # fmt: skip
    sku = make_sku("MUG")
    good = Listing.objects.create(
        account=account, external_id="1", location_id="9", external_sku="MUG", title="<b>Mug</b>", sku=sku, version=2,
        acked_version=2, acked_quantity=4, acked_at=T0,
    )  # fmt: skip
    StockPush.objects.create(
        listing=good,
        version=2,
        quantity=4,
        state="acked",
        changed_at=now(),
        sent_at=now(),
        answered_at=now(),
        latency_ms=820,
    )
    Listing.objects.create(
        account=account, external_id="2", external_sku="BAD", sku=sku, version=1, stale_since=now(), attempts=5,
        dead=True, last_error="INVALID_LOCATION: gone",
    )  # fmt: skip
    Listing.objects.create(
        account=account, external_id="3", external_sku="WHAT", title="Mug of mystery", read_quantity=3
    )
    Drift.objects.create(
        listing=good, ours=4, theirs=9, cause="edited", evidence={"why": "raised on the channel"}
    )
    InboxMessage.objects.create(
        account=account, delivery_id="d", topic="orders/create", state="dead", error="no such field"
    )
    taken = take(
        [order_draft(line_draft("MUG"), external_id="55")], channel=channel, actor=SYSTEM, source="webhook"
    )
    ChannelEffect.objects.create(
        account=account, order_id=taken[0].order_id, kind="ship", reference="S-1", key="ship:1:1", state="in_doubt",
        payload={"items": []}, error="no answer",
    )  # fmt: skip
    return account


def addresses(account: ChannelAccount) -> list[str]:
    listing = Listing.objects.get(external_sku="MUG")
    order_id = ChannelEffect.objects.get().order_id
    return [
        reverse("channels:list"),
        reverse("channels:detail", args=["shop-us"]),
        reverse("channels:listings", args=["shop-us"]),
        reverse("channels:listings", args=["shop-us"]) + "?state=unmapped",
        reverse("channels:listing", args=[listing.pk]),
        reverse("channels:connect"),
        reverse("channels:connect") + "?connector=amazon",
        reverse("channels:settings", args=["shop-us"]),
        reverse("channels:order_panel", args=[order_id]),
        reverse("channels:sku_panel", args=[listing.sku_id]),
    ]


def test_every_screen_opens_and_shows_no_secret(client: Client, account: ChannelAccount) -> None:
    client.force_login(make_user("owner"))
    for address in addresses(account):
        answer = client.get(address)
        assert answer.status_code == 200, address
        text = answer.content.decode()
        assert "shpat_secret_value" not in text and "hush_hush_value" not in text
        assert "<b>Mug</b>" not in text
    page = client.get(reverse("channels:detail", args=["shop-us"])).content.decode()
    assert "INVALID_LOCATION: gone" in page and "Edited on the channel" in page and "In doubt" in page
    assert "0.8 s" in page


def test_screens_know_who_may(client: Client, account: ChannelAccount) -> None:
    client.force_login(make_user("viewer", "viewer"))
    assert client.get(reverse("channels:detail", args=["shop-us"])).status_code == 200
    assert client.get(reverse("channels:settings", args=["shop-us"])).status_code == 403
    assert client.post(reverse("channels:act", args=["shop-us"]), {"action": "resync"}).status_code in (
        302,
        403,
    )
    assert Listing.objects.get(external_sku="MUG").stale_since is None
    client.force_login(make_user("elsewhere", "ops", channels=("other",)))
    assert client.get(reverse("channels:detail", args=["shop-us"])).status_code == 404
    assert "Shop-Us" not in client.get(reverse("channels:list")).content.decode()
    client.force_login(make_user("floor", "floor"))
    assert client.get(reverse("channels:list")).status_code == 403


def test_what_a_person_does(client: Client, account: ChannelAccount) -> None:
    client.force_login(make_user("owner"))
    act = reverse("channels:act", args=["shop-us"])
    client.post(act, {"action": "pause", "reason": "stock take"})
    account.refresh_from_db()
    assert account.pushes_paused_at and account.pause_reason == "stock take"
    assert "stock take" in client.get(reverse("channels:detail", args=["shop-us"])).content.decode()
    client.post(act, {"action": "resume"})
    client.post(act, {"action": "resync"})
    assert Listing.objects.filter(external_sku="MUG", stale_since__isnull=False, acked_quantity=None).exists()
    bad = Listing.objects.get(external_sku="BAD")
    client.post(reverse("channels:retry", args=[bad.pk]))
    bad.refresh_from_db()
    assert not bad.dead and bad.attempts == 0
    client.post(reverse("channels:drop", args=[bad.pk]))
    bad.refresh_from_db()
    assert bad.state == "paused"
    what = Listing.objects.get(external_sku="WHAT")
    client.post(reverse("channels:map", args=[what.pk]), {"sku": "mug"})
    what.refresh_from_db()
    assert what.sku is not None and what.sku.code == "MUG" and what.stale_since is not None
    rules = {
        "buffer_mode": "fixed", "buffer": 2, "percent": 50, "cap": "", "stop_at": 0, "pack_size": 1, "state": "active",
    }  # fmt: skip
    client.post(reverse("channels:listing", args=[what.pk]), rules)
    what.refresh_from_db()
    assert (what.buffer, what.percent, what.cap) == (2, 50, None)
    client.post(
        reverse("channels:effect", args=[ChannelEffect.objects.get().pk]),
        {"action": "happened", "external_id": "F-1"},
    )
    effect = ChannelEffect.objects.get()
    assert effect.state == "confirmed" and effect.external_id == "F-1"
    client.post(reverse("channels:message", args=[InboxMessage.objects.get().pk]), {"action": "replay"})
    assert InboxMessage.objects.get().state == "received"


def test_credentials_are_written_not_read(client: Client, account: ChannelAccount) -> None:
    client.force_login(make_user("owner"))
    answer = client.post(
        reverse("channels:connect"),
        {"connector": "shopify", "name": "Second", "code": "second", "order_prefix": "S2", "currency": "USD",
         "config_shop": "not-a-shop.example.com", "secret_access_token": "shpat_typed", "secret_client_secret": "x"},
    )  # fmt: skip
    assert answer.status_code == 422
    text = answer.content.decode()
    assert "acme.myshopify.com" in text and "shpat_typed" not in text
    assert not ChannelAccount.objects.filter(sales_channel__code="second").exists()


def test_api(client: Client, account: ChannelAccount) -> None:
    client.force_login(make_user("owner"))
    listed = client.get("/api/v1/channels/").json()
    rows = listed["results"] if "results" in listed else listed["items"]
    assert rows[0]["code"] == "shop-us" and "credentials" not in rows[0] and "hook_key" not in rows[0]
    health = client.get("/api/v1/channels/shop-us/health/").json()
    assert health["latency"]["p50"] >= 820 and health["unmapped"] == 1 and health["inbox_dead"] == 1
    listing = Listing.objects.get(external_sku="MUG")
    answer = client.patch(
        f"/api/v1/listings/{listing.pk}/",
        {"buffer": 3, "cap": None},
        content_type="application/json",
        headers={"If-Match": "*"},
    )
    assert answer.status_code == 200, answer.content
    listing.refresh_from_db()
    assert listing.buffer == 3 and listing.stale_since is not None
    assert (
        client.patch(
            f"/api/v1/listings/{listing.pk}/",
            {"percent": 130},
            content_type="application/json",
            headers={"If-Match": "*"},
        ).status_code
        == 400
    )
    messages: Any = client.get("/api/v1/channel-messages/?state=dead").json()
    found = (messages["results"] if "results" in messages else messages["items"])[0]
    assert "body" not in found
    assert client.post(f"/api/v1/channel-messages/{found['id']}/replay/").status_code == 200
    assert client.get("/api/v1/channels/nowhere/").status_code == 404
    assert client.get("/api/v1/listings/?colour=red").status_code == 400


def test_stock_by_channel_adds_locations_up_and_marks_trouble(
    client: Client, account: ChannelAccount, django_assert_max_num_queries: Any
) -> None:
    client.force_login(make_user("boss", "owner"))
    Listing.objects.create(
        account=account, external_id="1", location_id="10", external_sku="MUG", sku=Listing.objects.first().sku,
        version=1, acked_version=1, acked_quantity=3, buffer=2, acked_at=T0,
    )  # fmt: skip
    with django_assert_max_num_queries(24):
        page = client.get(reverse("channels:grid"))
    rows = page.context["rows"]
    marked = [link.label for _, links in page.context["shell"]["navigation"] for link in links if link.active]
    assert marked == ["Stock"], "it is a view of the stock, whatever its address"
    assert [row.sku.code for row in rows] == ["MUG"]
    [cell] = rows[0].cells
    assert (cell.listed, cell.buffer, cell.failed, cell.drift) == (7, 2, True, True)
    assert client.get(reverse("channels:grid") + "?only=buffer").context["rows"]
    assert not client.get(reverse("channels:grid") + "?q=nothing").context["rows"]
    client.force_login(make_user("buyer", "buyer"))
    assert client.get(reverse("channels:grid")).status_code == 403
