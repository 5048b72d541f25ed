"""The engine at the screen and over the API: who sets a buffer, what is mended by itself, drift, rate limits."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from channels import accounts, bulk, drift, tuning
from channels.budgets import of_account, revisions
from channels.models import ChannelAccount, Drift, Listing, StockPush
from oms.core.actor import Actor
from oms.core.clock import now
from oms.core.errors import Conflict, NotFound, UserError
from oms.core.models import AuditEntry, TokenBucket
from tests.channels.conftest import Shop
from tests.channels.test_screens import account as account
from tests.factories import make_user

pytestmark = pytest.mark.django_db

ANNA = Actor("user", "anna")


@pytest.fixture
def owner(client: Client) -> Client:
    client.force_login(make_user("owner"))
    return client


def rules(listing: Listing, **changes: Any) -> dict[str, Any]:
    form = {
        "buffer_mode": "fixed", "buffer": listing.buffer, "buffer_risk": "", "percent": 100, "cap": "", "stop_at": 0,
        "pack_size": 1, "state": "active",
    }  # fmt: skip
    return {**form, **changes}


# --- buffers ---------------------------------------------------------------------------------------


def test_a_person_lets_the_buffer_be_tuned_and_sees_why(owner: Client, account: ChannelAccount) -> None:
    listing = Listing.objects.get(external_sku="MUG")
    page = reverse("channels:listing", args=[listing.pk])
    assert owner.post(page, rules(listing, buffer_mode="tuned", buffer_risk="0.01")).status_code == 302
    listing.refresh_from_db()
    assert (listing.buffer_mode, listing.buffer_risk) == ("tuned", 0.01)
    assert "held back leave a risk of" in listing.buffer_why  # set at once, not in the night
    shown = owner.get(page).content.decode()
    assert listing.buffer_why in shown
    # a figure of one's own pins it again
    assert owner.post(page, rules(listing, buffer=4)).status_code == 302
    listing.refresh_from_db()
    assert (listing.buffer_mode, listing.buffer, listing.buffer_risk, listing.buffer_why) == (
        "fixed",
        4,
        None,
        "",
    )
    assert tuning.tune(account.pk) == 0
    assert AuditEntry.objects.filter(action="listing.buffer_mode").exists()


def test_a_risk_out_of_range_changes_nothing(owner: Client, account: ChannelAccount) -> None:
    listing = Listing.objects.get(external_sku="MUG")
    page = reverse("channels:listing", args=[listing.pk])
    answer = owner.post(page, rules(listing, buffer_mode="tuned", buffer_risk="2", stop_at=3))
    assert answer.status_code == 422
    listing.refresh_from_db()
    assert (listing.buffer_mode, listing.stop_at) == ("fixed", 0)
    with pytest.raises(UserError, match="use fixed or tuned"):
        tuning.set_mode(listing.pk, "guess", actor=ANNA)
    with pytest.raises(NotFound):
        tuning.set_mode(0, "fixed", actor=ANNA)


def test_the_buffer_cell_of_the_list_pins_a_tuned_buffer(account: ChannelAccount) -> None:
    listing = Listing.objects.get(external_sku="MUG")
    tuning.set_mode(listing.pk, "tuned", actor=ANNA)
    accounts.set_rules(listing.pk, buffer=6, actor=ANNA)
    listing.refresh_from_db()
    assert (listing.buffer_mode, listing.buffer) == ("fixed", 6)
    tuning.set_mode(listing.pk, "tuned", actor=ANNA)
    accounts.set_rules(listing.pk, percent=80, actor=ANNA)
    listing.refresh_from_db()
    assert listing.buffer_mode == "tuned"


def test_many_listings_are_tuned_or_fixed_at_once(owner: Client, account: ChannelAccount) -> None:
    ids = list(Listing.objects.filter(sku__isnull=False).values_list("pk", flat=True))
    send = {"rule": "tuned", "value": "0.005", "ids": ids, "channel": "shop-us"}
    assert owner.post(reverse("channels:rules"), send).status_code == 302
    assert set(Listing.objects.filter(pk__in=ids).values_list("buffer_mode", "buffer_risk")) == {
        ("tuned", 0.005)
    }
    assert owner.post(reverse("channels:rules"), {**send, "rule": "fixed", "value": ""}).status_code == 302
    assert set(Listing.objects.filter(pk__in=ids).values_list("buffer_mode", flat=True)) == {"fixed"}
    for wrong in ("2", "x", "-1", "nan"):
        with pytest.raises(UserError, match="use a chance from"):
            bulk.checked("tuned", wrong)
    assert bulk.checked("tuned", "") is None and bulk.checked("fixed", "7") is None


def test_the_api_sets_mode_and_risk(owner: Client, account: ChannelAccount) -> None:
    listing = Listing.objects.get(external_sku="MUG")
    address = f"/api/v1/listings/{listing.pk}/"

    def patch(**body: Any) -> Any:
        tag = owner.get(address)["ETag"]
        return owner.patch(address, body, content_type="application/json", HTTP_IF_MATCH=tag)

    answer = patch(buffer_mode="tuned", buffer_risk=0.02)
    assert answer.status_code == 200, answer.content
    assert (answer.json()["buffer_mode"], answer.json()["buffer_risk"]) == ("tuned", 0.02)
    assert answer.json()["buffer_why"]
    assert patch(buffer_mode="tuned", buffer=3).status_code == 400
    assert patch(buffer_risk=0.9).status_code == 400
    assert patch(buffer=3).json()["buffer_mode"] == "fixed"
    assert patch(buffer_mode="always").status_code == 400


# --- healing ---------------------------------------------------------------------------------------


def test_what_is_mended_by_itself_is_chosen_per_cause(owner: Client, account: ChannelAccount) -> None:
    page = reverse("channels:settings", args=["shop-us"])
    text = owner.get(page).content.decode()
    assert "our figure is told again" in text and text.count('name="auto_heal"') == 4
    assert owner.post(page, {"part": "healing", "auto_heal": ["edited", "fba"]}).status_code == 302
    account.refresh_from_db()
    assert account.config["auto_heal"] == ["edited", "fba"]
    assert account.config["shop"] == "acme.myshopify.com"
    assert drift.healing("edited", account.config["auto_heal"]) == "tell"
    assert drift.healing("unknown_sale", account.config["auto_heal"]) == "nothing"
    # other settings leave it as it is
    accounts.set_config(account.pk, {"shop": "acme.myshopify.com"}, actor=ANNA)
    account.refresh_from_db()
    assert account.config["auto_heal"] == ["edited", "fba"]
    assert AuditEntry.objects.filter(action="channel.healing").count() == 1
    with pytest.raises(UserError, match="'rejected' cannot be mended"):
        accounts.set_healing(account.pk, ["rejected"], actor=ANNA)


def test_the_api_sets_the_healing_policy(owner: Client, account: ChannelAccount) -> None:
    address = "/api/v1/channels/shop-us/healing/"
    answer = owner.post(address, {"auto_heal": ["unknown_sale"]}, content_type="application/json")
    assert answer.status_code == 200 and answer.json() == {"auto_heal": ["unknown_sale"]}
    assert (
        owner.post(address, {"auto_heal": ["rejected"]}, content_type="application/json").status_code == 400
    )
    assert owner.post(address, {"auto_heal": []}, content_type="application/json").json() == {"auto_heal": []}


# --- drift -----------------------------------------------------------------------------------------


def test_the_drift_screen_shows_causes_over_time_evidence_and_the_way_out(
    owner: Client, account: ChannelAccount, django_assert_max_num_queries: Any
) -> None:
    listing = Listing.objects.get(external_sku="WHAT")
    for days, cause in ((1, "unmapped"), (3, "edited"), (3, "edited"), (20, "edited")):
        one = Drift.objects.create(
            listing=listing, ours=0, theirs=3, cause=cause, closed_at=now(), closed_by="t"
        )
        Drift.objects.filter(pk=one.pk).update(found_at=now() - dt.timedelta(days=days))
    labels, counts = drift.by_day(account.pk)
    assert len(labels) == 14 and {cause: sum(found) for cause, found in counts.items()} == {
        "unmapped": 1, "edited": 3,
    }  # fmt: skip
    assert counts["edited"][-4] == 2 and counts["edited"][-1] == 1
    page = reverse("channels:drift", args=["shop-us"])
    with django_assert_max_num_queries(20):
        text = owner.get(page).content.decode()
    assert "Differences found per day" in text and "raised on the channel" in text
    assert "Push ours" in text and "Accept 24 h" in text
    assert "WHAT" in owner.get(page + "?state=closed").content.decode()
    assert "No difference of this cause" in owner.get(page + "?cause=fba").content.decode()


@pytest.mark.django_db(transaction=True)
def test_an_accepted_difference_is_quiet_until_a_figure_changes(shopify: Shop) -> None:
    from tests.channels.conftest import push_all

    push_all()
    accounts.set_healing(shopify.account.pk, [], actor=ANNA)
    shopify.client.set_stock(shopify.id, "MUG", 90)
    listing = shopify.listing("MUG")
    assert drift.read_back(shopify.account.pk, [listing]) == 1
    entry = Drift.objects.get(closed_at=None)
    drift.accept(entry.pk, hours=24, reason="promised to a buyer", actor=ANNA)
    assert drift.read_back(shopify.account.pk, [shopify.listing("MUG")]) == 0
    assert not Drift.objects.filter(closed_at=None).exists()
    shopify.client.set_stock(shopify.id, "MUG", 91)
    assert drift.read_back(shopify.account.pk, [shopify.listing("MUG")]) == 1
    entry.refresh_from_db()
    assert entry.closed_by == "user:anna" or "anna" in entry.closed_by
    with pytest.raises(Conflict, match="closed already"):
        drift.accept(entry.pk, actor=ANNA)
    with pytest.raises(UserError, match="hours: use 1 to"):
        drift.accept(Drift.objects.get(closed_at=None).pk, hours=0, actor=ANNA)


def test_accepting_at_the_screen(owner: Client, account: ChannelAccount) -> None:
    entry = Drift.objects.get()
    assert owner.post(reverse("channels:accept", args=[entry.pk]), {"hours": "24"}).status_code == 302
    entry.refresh_from_db()
    assert entry.closed_at and entry.accepted_until and entry.accepted_until > now() + dt.timedelta(hours=23)


# --- budgets ---------------------------------------------------------------------------------------


def bucket(key: str, tokens: float, *, paused: bool = False, age: float = 0.0) -> None:
    at = now() - dt.timedelta(seconds=age)
    until = now() + dt.timedelta(minutes=1) if paused else None
    TokenBucket.objects.create(
        key=key, tokens=tokens, per_second=0.0056, burst=16, updated_at=at, paused_until=until
    )


def test_rate_limits_show_what_is_used(owner: Client, account: ChannelAccount) -> None:
    key = f"channel:{account.pk}"
    bucket(f"{key}/orders.list", 4)
    bucket(f"{key}/fba", 16, paused=True)
    bucket(f"{key}/old", 0, age=90_000)
    bucket(f"{key}9/orders.list", 0)
    found = {one.name: one for one in of_account(account)}
    assert set(found) == {"orders.list", "fba"}
    assert (round(found["orders.list"].used), found["orders.list"].percent) == (12, 75)
    assert found["orders.list"].pace == "20.2 per h" and found["fba"].percent == 100
    text = owner.get(reverse("channels:detail", args=["shop-us"])).content.decode()
    assert "orders.list" in text and "Told to wait" in text and "p99" in text


def test_daily_revisions_are_counted_against_the_channels_limit(account: ChannelAccount) -> None:
    assert revisions(account) is None
    ChannelAccount.objects.filter(pk=account.pk).update(connector="ebay")
    account.refresh_from_db()
    listing = Listing.objects.get(external_sku="MUG")
    StockPush.objects.bulk_create(
        StockPush(
            listing=listing,
            version=2,
            quantity=1,
            state="acked",
            changed_at=now(),
            sent_at=now(),
            answered_at=now(),
        )
        for _ in range(210)
    )
    told = revisions(account)
    assert told is not None and (told.limit, told.near, told.worst[0][1]) == (250, 1, 211)
