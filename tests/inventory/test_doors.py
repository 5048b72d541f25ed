"""Building, valuation, merges, lot traces and reasons: one service behind screen and API, for those who may."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest
from django.db import transaction
from rest_framework.test import APIClient

from inventory import operations
from inventory.ledger import Movement, post_movements
from inventory.models import AdjustmentReason, KitComponent, Lot, Sku, StockLevel
from oms.core.actor import SYSTEM, actor_of
from oms.core.errors import UserError
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


def api(role="owner", **scope):
    client = APIClient()
    client.force_authenticate(make_user(role=role, **scope))
    return client


@pytest.fixture
def box():
    """A pre-built box of 2 MUG and 1 CAP."""
    east = make_warehouse("EAST")
    mug, cap = make_sku("MUG"), make_sku("CAP")
    add_stock(mug, east, 10, unit_cost=Decimal(3))
    add_stock(cap, east, 10, unit_cost=Decimal(4))
    made = make_sku("BOX", kind=Sku.Kind.PREBUILT)
    for part, units in ((mug, 2), (cap, 1)):
        KitComponent.objects.create(kit=made, component=part, quantity=units)
    return made


def stock():
    return dict(StockLevel.objects.filter(on_hand__gt=0).values_list("sku__code", "on_hand"))


def test_sets_are_built_and_taken_apart_on_the_sku_page(client, box, assert_invariants):
    client.force_login(make_user())
    page = client.get("/stock/BOX/")
    assert 'data-open="build"' in page.content.decode()
    assert 'data-open="build"' not in client.get("/stock/MUG/").content.decode()
    form = {"warehouse": "EAST", "quantity": "3", "step": "build", "form_key": page.context["form_key"]}
    for _ in range(2):  # a double click
        client.post(f"/stock/sku/{box.pk}/build/", form)
    assert stock() == {"MUG": 4, "CAP": 7, "BOX": 3}
    assert StockLevel.objects.get(sku=box).average_cost == Decimal(10)
    client.post(
        f"/stock/sku/{box.pk}/build/",
        {**form, "quantity": "1", "step": "apart", "form_key": str(uuid.uuid4())},
    )
    assert stock() == {"MUG": 6, "CAP": 8, "BOX": 2}
    short = {**form, "quantity": "9", "form_key": str(uuid.uuid4())}
    client.post(f"/stock/sku/{box.pk}/build/", short)
    assert stock() == {"MUG": 6, "CAP": 8, "BOX": 2}
    assert_invariants()


def test_building_over_http_needs_the_right_at_the_place(box, assert_invariants):
    address = f"/api/v1/skus/{box.pk}/"
    body = {"warehouse": "EAST", "quantity": 2, "key": "b1"}
    assert api("viewer").post(f"{address}build/", body, format="json").status_code == 403
    boss = api()
    answers = [boss.post(f"{address}build/", body, format="json") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].data == answers[1].data and len(answers[0].data["movements"]) == 3
    assert stock() == {"MUG": 6, "CAP": 8, "BOX": 2}
    boss.post(f"{address}take-apart/", {**body, "key": "t1"}, format="json")
    assert stock() == {"MUG": 10, "CAP": 10}
    mug = Sku.objects.get(code="MUG")
    assert boss.post(f"/api/v1/skus/{mug.pk}/build/", body, format="json").status_code == 400
    assert_invariants()


def test_the_method_of_a_sku_is_changed_by_who_runs_the_house(client, box):
    client.force_login(make_user(role="owner"))
    client.post(f"/stock/sku/{box.pk}/valuation/", {"method": "fifo"})
    box.refresh_from_db()
    assert box.valuation == "fifo"
    assert "first in, first out" in client.get("/stock/BOX/").content.decode()
    back = api().post(f"/api/v1/skus/{box.pk}/valuation/", {"method": ""}, format="json")
    assert back.status_code == 200 and back.data["valuation"] == ""
    wrong = api().post(f"/api/v1/skus/{box.pk}/valuation/", {"method": "lifo"}, format="json")
    assert wrong.status_code == 400
    client.force_login(make_user(role="viewer"))
    assert client.post(f"/stock/sku/{box.pk}/valuation/", {"method": "fifo"}).status_code == 403
    assert 'data-open="valuation"' not in client.get("/stock/BOX/").content.decode()


def test_two_codes_become_one_over_http(assert_invariants):
    east = make_warehouse("EAST")
    old, new = make_sku("OLD"), make_sku("NEW")
    add_stock(old, east, 4)
    assert (
        api("viewer").post(f"/api/v1/skus/{old.pk}/merge/", {"into": "NEW"}, format="json").status_code == 403
    )
    done = api().post(f"/api/v1/skus/{old.pk}/merge/", {"into": "NEW"}, format="json")
    assert done.status_code == 200 and done.data["code"] == "NEW"
    assert stock() == {"NEW": 4}
    again = api().post(f"/api/v1/skus/{new.pk}/merge/", {"into": "NEW"}, format="json")
    assert again.status_code == 400 and "two different SKUs" in str(again.data)
    assert_invariants()


def test_a_lot_is_traced_over_http():
    east, west = make_warehouse("EAST"), make_warehouse("WEST")
    soap = make_sku("SOAP", lot_tracked=True)
    lot = Lot.objects.create(sku=soap, code="L1")
    with transaction.atomic():
        post_movements(
            [
                Movement(
                    soap.pk, place.pk, "on_hand", units, "receipt", key=place.code, reference="PO-1", lot_id=lot.pk
                )
                for place, units in ((east, 8), (west, 5))
            ],
            actor=SYSTEM,
        )  # fmt: skip
    seen = api().get(f"/api/v1/lots/{lot.pk}/trace/").data
    assert (seen["lot"], seen["received"], seen["sources"], seen["shipped"]) == ("L1", 13, {"PO-1": 13}, {})
    assert seen["on_hand"] == {"EAST": 8, "WEST": 5}
    part = api("floor", warehouses=("EAST",)).get(f"/api/v1/lots/{lot.pk}/trace/").data
    assert (part["on_hand"], part["sources"]) == ({"EAST": 8}, {})


# --- reasons ----------------------------------------------------------------------------------------


def test_a_word_that_is_not_on_the_list_is_refused_at_every_door(assert_invariants):
    east = make_warehouse("EAST")
    mug = make_sku("MUG")
    add_stock(mug, east, 10)
    person = actor_of(make_user())
    listed = ", ".join(AdjustmentReason.objects.filter(is_active=True).values_list("code", flat=True))
    what = {"sku_id": mug.pk, "warehouse_id": east.pk, "key": "k"}
    says = f"reason: 'because' is not on the list; use one of {listed}."
    with pytest.raises(UserError) as told:
        operations.adjust(**what, quantity=-1, reason="because", actor=person)
    assert told.value.message == says
    with pytest.raises(UserError) as told:
        operations.change_state(
            **what, quantity=1, source="sellable", target="damaged", reason="because", actor=person
        )
    assert told.value.message == says
    body = {"sku": "MUG", "warehouse": "EAST", "quantity": -1, "reason": "because"}
    answer = api().post("/api/v1/stock/adjust/", body, format="json")
    assert answer.status_code == 400 and "use one of" in str(answer.data)
    # the software keeps its own words
    operations.adjust(**what, quantity=-1, reason="because", actor=SYSTEM)
    assert StockLevel.objects.get().on_hand == 9
    assert_invariants()
