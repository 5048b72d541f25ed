"""The data-fix desk writes movements, never balances (D01)."""

from __future__ import annotations

import uuid

import pytest
from django.urls import reverse

from inventory.models import StockLevel, StockMovement
from oms.core.models import User
from tests.factories import add_stock, make_sku, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client):
    client.force_login(User.objects.create_superuser("root", password="correct horse battery"))
    return client


@pytest.mark.parametrize(
    "name",
    ["product", "sku", "warehouse", "bin", "lot", "ringfence", "stocklevel", "stockmovement", "reservation", "transfer",
     "adjustmentrequest"],
)  # fmt: skip
def test_every_list_opens(desk, name):
    add_stock(make_sku("MUG"), make_warehouse(), 5)
    assert desk.get(reverse(f"admin:inventory_{name}_changelist")).status_code == 200


def test_a_balance_cannot_be_edited_but_corrected(desk, assert_invariants):
    sku, east = make_sku("MUG"), make_warehouse("EAST")
    add_stock(sku, east, 5)
    level = StockLevel.objects.get()
    change = reverse("admin:inventory_stocklevel_change", args=[level.pk])
    page = desk.get(change)
    assert "Post correction" in page.content.decode()
    assert 'name="on_hand"' not in page.content.decode()
    assert desk.post(change, {"on_hand": 99}).status_code == 403
    desk_url = reverse("admin:inventory_stocklevel_correct", args=[level.pk])
    key = str(uuid.uuid4())
    no_reason = desk.post(desk_url, {"quantity": -2, "reason": "", "form_key": key})
    assert no_reason.status_code == 200 and StockLevel.objects.get().on_hand == 5
    for _ in range(2):
        assert (
            desk.post(
                desk_url, {"quantity": -2, "reason": "correction", "note": "miscounted", "form_key": key}
            ).status_code
            == 302
        )
    assert StockLevel.objects.get().on_hand == 3
    row = StockMovement.objects.latest("id")
    assert (row.kind, row.quantity, row.reason, row.actor) == ("correction", -2, "correction", "user:root")
    assert_invariants()


def test_the_ledger_and_promises_are_only_looked_at(desk):
    add_stock(make_sku("MUG"), make_warehouse(), 5)
    row = StockMovement.objects.get()
    assert (
        desk.post(reverse("admin:inventory_stockmovement_delete", args=[row.pk]), {"post": "yes"}).status_code
        == 403
    )
    assert desk.get(reverse("admin:inventory_stockmovement_add")).status_code == 403
    assert desk.get(reverse("admin:inventory_reservation_add")).status_code == 403


def test_an_alias_that_finds_another_sku_is_refused(desk):
    mug, tee = make_sku("MUG"), make_sku("TEE")
    data = {
        "product": tee.product_id, "code": "mug", "kind": "stock", "unit_cost": "0", "price": "0", "currency": "USD",
        "options": "{}", "is_active": "on",
        **{f"{part}-{name}_FORMS": 0 for part in ("aliases", "packs", "components") for name in ("TOTAL", "INITIAL")},
    }  # fmt: skip
    answer = desk.post(reverse("admin:inventory_sku_change", args=[tee.pk]), data)
    assert answer.status_code == 200
    assert f"already finds {mug.code}" in answer.content.decode()
