"""Seven faults put into the sandbox: each difference gets its true cause, with evidence, and heals as it may."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from channels import drift, inbox, pulls, quantities, sync
from channels.connectors.base import get_connector
from channels.drift import Heal, healing
from channels.models import ChannelAccount, Drift, InboxMessage, Listing
from channels.session import access_of
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import Doorbell
from tests.channels.conftest import Shop, push_all
from tests.channels.test_pusher import move

pytestmark = pytest.mark.django_db(transaction=True)


def found(shop: Shop, code: str) -> Drift:
    assert drift.read_back(shop.account.pk, [shop.listing(code)]) == 1
    entry = Drift.objects.get(listing=shop.listing(code), closed_at__isnull=True)
    assert entry.evidence["why"] and entry.evidence["link"] == f"/channels/listings/{entry.listing_id}/"
    assert entry.evidence["read"] == entry.theirs
    return entry


@pytest.fixture
def told(shopify: Shop) -> Shop:
    """A shop that was told 50 of everything, whose orders were read afterwards."""
    push_all()
    pulls.pull_orders(shopify.account.pk)
    assert shopify.available("MUG") == 50
    return shopify


def test_unsent(told: Shop) -> None:
    sync.pause(told.account.pk, "stock count", actor=SYSTEM)
    move(told.skus["MUG"], told.warehouse, -8, "count")
    push_all()
    assert drift.read_back(told.account.pk, [told.listing("MUG")]) == 0  # on its way is no drift
    Listing.objects.filter(external_sku="MUG").update(stale_since=now() - dt.timedelta(minutes=5))
    told.client.set_stock(told.id, "MUG", 49)
    entry = found(told, "MUG")
    assert (entry.cause, entry.ours, entry.theirs) == (Drift.Cause.UNSENT, 50, 49)


def test_rejected(told: Shop) -> None:
    true_id = told.listing("MUG").external_id
    Listing.objects.filter(external_sku="MUG").update(external_id="999999999")
    move(told.skus["MUG"], told.warehouse, -8, "count")
    push_all()
    Listing.objects.filter(external_sku="MUG").update(external_id=true_id)
    told.client.set_stock(told.id, "MUG", 49)
    entry = found(told, "MUG")
    assert entry.cause == Drift.Cause.REJECTED and "INVALID_INVENTORY_ITEM" in entry.evidence["error"]
    assert entry.evidence["push"]["state"] == "failed"


def test_edited_on_the_channel_is_told_again(told: Shop) -> None:
    told.client.set_stock(told.id, "MUG", 90)
    entry = found(told, "MUG")
    assert (entry.cause, entry.ours, entry.theirs) == (Drift.Cause.EDITED, 50, 90)
    push_all()
    assert told.available("MUG") == 50
    assert drift.read_back(told.account.pk, [told.listing("MUG")]) == 0
    entry.refresh_from_db()
    assert entry.closed_at is not None


def test_an_account_may_ask_for_no_healing(told: Shop) -> None:
    ChannelAccount.objects.filter(pk=told.account.pk).update(
        config={**told.account.config, "auto_heal": False}
    )
    told.client.set_stock(told.id, "MUG", 90)
    assert found(told, "MUG").cause == Drift.Cause.EDITED
    push_all()
    assert told.available("MUG") == 90


def test_unmapped(told: Shop) -> None:
    Listing.objects.filter(external_sku="TRAY").update(sku=None)
    entry = found(told, "TRAY")
    assert (entry.cause, entry.theirs) == (Drift.Cause.UNMAPPED, 50)


def test_unknown_sale_makes_us_read_the_orders(told: Shop) -> None:
    move(told.skus["MUG"], told.warehouse, -1, "count")
    push_all()  # told after the last reading of the orders
    told.client.faults(told.id, webhook_loss_rate=1.0)
    told.buy("MUG", 2)
    entry = found(told, "MUG")
    assert (entry.cause, entry.ours, entry.theirs) == (Drift.Cause.UNKNOWN_SALE, 49, 47)
    # nobody else may sell the two, though no order of them has come yet
    mug = told.listing("MUG")
    assert (mug.acked_quantity, mug.held, mug.is_stale) == (47, 49, True) and mug.unseen_since is not None
    shown = quantities.sellable(mug.pk)
    assert shown is not None and shown.why() == "49 stock, 47 less sales not yet in our books"
    assert Doorbell.objects.filter(task="channels.tasks.pull_account", subject=str(told.account.pk)).exists()
    pulls.pull_orders(told.account.pk)
    push_all()
    assert told.available("MUG") == 47 and drift.read_back(told.account.pk, [told.listing("MUG")]) == 0


def test_delayed_order(told: Shop) -> None:
    told.buy("MUG", 3)
    connector = get_connector("shopify")
    for delivery in told.client.deliveries(shop=told.id, limit=100):
        headers = {name.lower(): value for name, value in delivery["headers"].items()}
        inbox.accept(
            told.account, connector.parse_push(access_of(told.account), headers, delivery["body"].encode())
        )
    assert InboxMessage.objects.filter(state="received").exists()
    assert found(told, "MUG").cause == Drift.Cause.DELAYED_ORDER
    assert Doorbell.objects.filter(task="channels.tasks.drain_inbox").exists()


def test_fba_adjustment_is_booked_and_kept_as_evidence(amazon: Shop, django_user_model: Any) -> None:
    from channels.models import LocationMap
    from tests.factories import make_warehouse

    pool = make_warehouse("FBA", kind="fba")
    LocationMap.objects.create(account=amazon.account, warehouse=pool, external_id="fba")
    Listing.objects.filter(external_sku="MUG-FBA").update(sku=amazon.skus["MUG"], fulfilment="channel")
    pulls.pull_pool(amazon.account.pk)
    assert not Drift.objects.exists()  # the first figures are no difference
    amazon.client.set_fba(amazon.id, "MUG-FBA", fulfillable=27)
    pulls.pull_pool(amazon.account.pk)
    entry = Drift.objects.get()
    assert (entry.cause, entry.ours, entry.theirs) == (Drift.Cause.FBA, 30, 27)
    assert entry.closed_at is not None


@pytest.mark.parametrize(
    ("policy", "heals"),
    [
        (None, {"edited": Heal.TELL, "unknown_sale": Heal.PULL, "delayed_order": Heal.DRAIN, "fba": Heal.ACCEPT}),
        (False, {}),
        (["unknown_sale"], {"unknown_sale": Heal.PULL}),
    ],
)  # fmt: skip
def test_the_policy_of_an_account(policy: object, heals: dict[str, Heal]) -> None:
    assert {
        cause: heal for cause in Drift.Cause.values if (heal := healing(cause, policy)) is not Heal.NOTHING
    } == heals
