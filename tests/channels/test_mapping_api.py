"""What a person maps on the screens, a program sets over HTTP; differences are decided by it too (X01)."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from channels.connectors.base import get_connector
from channels.connectors.custom.presets import PRESETS
from channels.models import ChannelAccount, Drift, Listing
from oms.core import exceptions_inbox, tokens
from oms.core.actor import SYSTEM
from oms.core.models import AuditEntry, ExceptionItem
from oms.core.roles import SCOPES
from tests.factories import make_channel, make_sku, make_user

pytestmark = pytest.mark.django_db
MAPPINGS, DRIFTS = "/api/v1/channel-mappings/", "/api/v1/drifts/"


def bearer(role: str = "owner", **limits: Any) -> APIClient:
    api = APIClient()
    _, text = tokens.issue(make_user(f"u-{role}", role), "t", sorted(SCOPES), actor=SYSTEM, **limits)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


@pytest.fixture
def api() -> APIClient:
    return bearer()


def connect(code: str, connector: str, **config: Any) -> ChannelAccount:
    clean = get_connector(connector).check_config(config)
    return ChannelAccount.objects.create(sales_channel=make_channel(code), connector=connector, config=clean)


@pytest.fixture
def shop() -> ChannelAccount:
    return connect("shop", "custom", base_url="https://shop.example.com")


@pytest.fixture
def files() -> ChannelAccount:
    return connect("drop", "files", folder="drop")


def test_a_whole_ready_mapping_goes_through_the_api(api: APIClient, shop: ChannelAccount) -> None:
    read = api.get(f"{MAPPINGS}shop/")
    assert read.json()["mapping"] == {} and "Placed" in read.json()["missing"], read.json()
    ready = dict(next(iter(PRESETS.values()))[1])
    statuses = ready.pop("statuses", {})
    body = {"mapping": ready, "statuses": statuses}
    assert api.patch(f"{MAPPINGS}shop/", body).status_code == 428
    made = api.patch(f"{MAPPINGS}shop/", body, HTTP_IF_MATCH=read["ETag"])
    assert made.status_code == 200, made.content
    assert (made.json()["missing"], made.json()["columns"]) == ([], None)
    shop.refresh_from_db()
    assert shop.config["mapping"] == {**made.json()["mapping"], "statuses": statuses}
    assert shop.config["base_url"] == "https://shop.example.com", "the rest of the configuration stays"
    assert AuditEntry.objects.filter(action="channel.config", actor__startswith="token:").exists()
    stale = api.patch(f"{MAPPINGS}shop/", {"statuses": {}}, HTTP_IF_MATCH=read["ETag"])
    assert stale.status_code == 412
    only = api.patch(f"{MAPPINGS}shop/", {"statuses": {"paid": "open"}}, HTTP_IF_MATCH=made["ETag"])
    assert only.json()["statuses"] == {"paid": "open"}
    assert only.json()["mapping"] == made.json()["mapping"], "what is left out stays"


@pytest.mark.parametrize(
    ("body", "words", "pointer"),
    [
        ({"mapping": {"colour": "a"}}, "'colour' is not a field of a mapping", "/mapping"),
        ({"mapping": {"orders_list": "a..b["}}, "is not a path", "/mapping/orders_list"),
        ({"mapping": {"money": "gold"}}, "choose one of", "/mapping/money"),
        ({"mapping": {"id": 5}}, "Give text.", "/mapping"),
        ({"statuses": {"paid": "maybe"}}, "pending", "/statuses/paid"),
        ({"columns": {"id": "Order"}}, "has no such part; use mapping, statuses", "/columns"),
    ],
)
def test_a_mapping_that_cannot_be_read_is_pointed_at(
    api: APIClient, shop: ChannelAccount, body: dict[str, Any], words: str, pointer: str
) -> None:
    answer = api.patch(f"{MAPPINGS}shop/", body, HTTP_IF_MATCH="*")
    assert answer.status_code == 400, answer.content
    assert words in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == pointer
    shop.refresh_from_db()
    assert shop.config["mapping"] == {}


def test_columns_of_files_and_the_files_we_write(api: APIClient, files: ChannelAccount) -> None:
    columns = {
        "id": "Order ID",
        "line_sku": "SKU",
        "line_quantity": "Qty",
        "placed_at": "Date",
        "line_price": "Price",
    }
    stock = {
        "name": "levels.csv",
        "delimiter": "semicolon",
        "columns": [["Code", "{sku}"], ["Free", "{quantity}"]],
    }
    body = {"columns": columns, "ways": {"dates": "iso", "fixed_currency": "USD"}, "stock_file": stock}
    made = api.patch(f"{MAPPINGS}drop/", body, HTTP_IF_MATCH="*")
    assert made.status_code == 200, made.content
    files.refresh_from_db()
    assert files.config["orders"]["columns"] == made.json()["columns"] == columns
    assert files.config["stock"]["name"] == made.json()["stock_file"]["name"] == "levels.csv"
    assert made.json()["mapping"] is None
    for wrong, words in (
        ({"ways": {"dates": "stars"}}, "Dates: choose"),
        ({"ways": {"sorting": "up"}}, "ways.sorting: there is no such way"),
        ({"columns": {"shoe": "S"}}, "a field that an order does not have"),
        ({"stock_file": {**stock, "columns": [["Code", "{sku}"]]}}, "{quantity}"),
        ({"stock_file": {**stock, "columns": [["Code", "{sku}"], ["X", "{moon}"]]}}, "no placeholder"),
        ({"stock_file": {**stock, "delimiter": "pipe"}}, "Choose from comma, semicolon, tab."),
        ({"mapping": {"id": "a"}}, "has no such part; use columns"),
    ):
        answer = api.patch(f"{MAPPINGS}drop/", wrong, HTTP_IF_MATCH="*")
        assert answer.status_code == 400 and words in answer.json()["detail"], answer.content


def test_only_channels_that_are_mapped_have_a_mapping(api: APIClient, shop: ChannelAccount) -> None:
    ChannelAccount.objects.create(sales_channel=make_channel("acme"), connector="shopify")
    assert [one["channel"] for one in api.get(MAPPINGS).json()["results"]] == ["shop"]
    assert api.get(f"{MAPPINGS}acme/").status_code == 404
    reader = bearer("viewer")
    assert reader.get(f"{MAPPINGS}shop/").status_code in (200, 403)
    assert reader.patch(f"{MAPPINGS}shop/", {}, HTTP_IF_MATCH="*").status_code == 403


# --- differences ----------------------------------------------------------------------------------


@pytest.fixture
def drift() -> Drift:
    account = ChannelAccount.objects.create(
        sales_channel=make_channel("acme"), connector="shopify", state="connected"
    )
    listing = Listing.objects.create(
        account=account, external_id="L1", external_sku="MUG", sku=make_sku("MUG"), acked_quantity=5
    )
    exceptions_inbox.raise_item("drift", f"drift:{listing.pk}", "shows 7, we told 5")
    return Drift.objects.create(listing=listing, ours=5, theirs=7, cause="edited")


def test_a_difference_is_accepted_for_a_while(api: APIClient, drift: Drift) -> None:
    one = f"{DRIFTS}{drift.pk}/"
    read = api.get(one)
    assert (read.json()["channel"], read.json()["theirs"], read.json()["closed_at"]) == ("acme", 7, None)
    assert [row["id"] for row in api.get(f"{DRIFTS}?channel=acme&open=true").json()["results"]] == [drift.pk]
    too_long = api.post(f"{one}accept/", {"hours": 9999})
    assert too_long.json()["errors"][0]["pointer"] == "/hours"
    body = {"hours": 48, "reason": "promised to a buyer"}
    done = api.post(f"{one}accept/", body, HTTP_IF_MATCH=read["ETag"])
    assert done.status_code == 200 and done.json()["accepted_until"] and done.json()["closed_at"]
    assert done["ETag"] == api.get(one)["ETag"] != read["ETag"]
    assert not ExceptionItem.objects.filter(closed_at__isnull=True).exists()
    assert api.post(f"{one}accept/", body, HTTP_IF_MATCH=read["ETag"]).status_code == 412
    late = api.post(f"{one}heal/")
    assert late.status_code == 409 and "closed already" in late.json()["detail"]
    assert api.get(f"{DRIFTS}?open=true").json()["results"] == []


def test_our_figure_is_told_again(api: APIClient, drift: Drift) -> None:
    done = api.post(f"{DRIFTS}{drift.pk}/heal/")
    assert done.status_code == 200 and done.json()["closed_by"].startswith("token:")
    assert Listing.objects.get().stale_since is not None
    assert AuditEntry.objects.filter(action="drift.healed").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cause": "fba"}, "the channel counts its own warehouse"),
        ({"unmapped": True}, "no SKU stands behind"),
    ],
)
def test_where_no_figure_of_ours_may_be_told_it_is_a_conflict(
    api: APIClient, drift: Drift, change: dict[str, Any], words: str
) -> None:
    if "cause" in change:
        Drift.objects.update(cause="fba")
    else:
        Listing.objects.update(sku=None)
    answer = api.post(f"{DRIFTS}{drift.pk}/heal/")
    assert answer.status_code == 409 and words in answer.json()["detail"]
    assert Drift.objects.get().closed_at is None


def test_a_difference_of_another_channel_is_not_there(drift: Drift) -> None:
    make_channel("else")
    other = bearer(channels=["else"])
    for path in ("", "heal/", "accept/"):
        ask = other.post if path else other.get
        assert ask(f"{DRIFTS}{drift.pk}/{path}").status_code == 404
