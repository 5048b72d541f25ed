"""F20: customs data is completed where it is missed: the pack screen, the shipment, the SKU, the settings, the API."""

from __future__ import annotations

from decimal import Decimal as D
from typing import Any

import pytest
from rest_framework.test import APIClient

from fulfillment import labels, rates
from fulfillment.models import CustomsTerms, LabelPurchase, Shipment
from inventory.models import Sku
from oms.core import tokens
from oms.core.actor import SYSTEM
from oms.core.models import AuditEntry, ExceptionItem
from tests.factories import add_stock, line_draft, make_sku, make_user
from tests.fulfillment.test_customs import abroad, complete

SENTENCE = "MUG needs an HS code of 6 to 10 digits."


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


@pytest.fixture
def blocked(world: Any, carrier: Any) -> Shipment:
    return abroad(world, line_draft(world.sku, 2))


def test_the_pack_screen_names_the_sku_and_goes_on_once_it_is_complete(client, world, blocked):
    client.force_login(make_user("pam", "floor"))
    shown = text(client.get(f"/floor/{blocked.pk}/"))
    assert SENTENCE in shown and f'name="hs_code-{world.sku.pk}"' in shown
    assert "Buy label" not in shown and "Compare rates" not in shown
    answer = client.post(
        f"/shipments/{blocked.pk}/customs/",
        {"from": "bench", f"hs_code-{world.sku.pk}": "6912.00", f"origin_country-{world.sku.pk}": "pt"},
        follow=True,
    )
    assert answer.redirect_chain[-1][0] == f"/floor/{blocked.pk}/"
    shown = text(answer)
    assert SENTENCE not in shown and "Buy label" in shown
    sku = Sku.objects.get(pk=world.sku.pk)
    assert (sku.hs_code, sku.origin_country) == ("691200", "PT")
    entry = AuditEntry.objects.get(action="sku.customs")
    assert (entry.actor, entry.before, entry.after) == (
        "user:pam", {"hs_code": "", "origin_country": ""}, {"hs_code": "691200", "origin_country": "PT"},
    )  # fmt: skip
    client.post(f"/shipments/{blocked.pk}/label/", {"from": "bench"})
    assert LabelPurchase.objects.get().state == LabelPurchase.State.PURCHASED


def test_closing_the_box_shows_what_is_missing_and_not_a_toast(client, world, carrier):
    client.force_login(make_user("pam", "floor"))
    shipment = abroad(world, line_draft(world.sku, 1))
    answer = client.post(f"/shipments/{shipment.pk}/pack/", {"from": "bench"}, follow=True)
    assert SENTENCE in text(answer) and not list(answer.context["messages"])
    assert ExceptionItem.objects.get(kind="customs_missing").closed_at is None


def test_a_wrong_value_stands_beside_its_field_and_nothing_is_kept(client, world, blocked):
    client.force_login(make_user("pam", "floor"))
    hs, made_in = f"hs_code-{world.sku.pk}", f"origin_country-{world.sku.pk}"
    for page in ("bench", "shipment"):
        answer = client.post(
            f"/shipments/{blocked.pk}/customs/", {"from": page, hs: "691200", made_in: "Portugal"}
        )
        shown = text(answer)
        assert answer.status_code == 422
        assert "is not a country; write its two letters, such as PT." in shown
        assert 'value="691200"' in shown and 'value="Portugal"' in shown
    assert Sku.objects.get(pk=world.sku.pk).hs_code == ""


def test_a_foreign_sku_is_not_reached_through_a_shipment(client, world, blocked):
    other = make_sku("OTHER")
    client.force_login(make_user("pam", "floor"))
    client.post(f"/shipments/{blocked.pk}/customs/", {f"hs_code-{other.pk}": "691200"})
    assert Sku.objects.get(pk=other.pk).hs_code == ""


def test_who_lacks_the_right_is_told_whom_to_ask(client, world, blocked):
    client.force_login(make_user("sue", "support"))
    shown = text(client.get(f"/shipments/{blocked.pk}/"))
    assert SENTENCE in shown and "Ask an operations lead" in shown and "hs_code-" not in shown
    answer = client.post(f"/shipments/{blocked.pk}/customs/", {f"hs_code-{world.sku.pk}": "691200"})
    assert answer.status_code == 403
    assert Sku.objects.get(pk=world.sku.pk).hs_code == ""


def test_the_shipment_page_shows_the_declaration_and_leads_to_the_invoice(client, world, blocked):
    client.force_login(make_user("boss"))
    complete(world.sku)
    shown = text(client.get(f"/shipments/{blocked.pk}/"))
    assert "Declared" in shown and "691200 · PT" in shown and f"/shipments/{blocked.pk}/invoice.pdf" in shown
    answer = client.get(f"/shipments/{blocked.pk}/invoice.pdf")
    assert answer["Content-Type"] == "application/pdf" and answer.content.startswith(b"%PDF")
    home = world.packed(1)
    assert "customs" not in text(client.get(f"/shipments/{home.pk}/")).lower()
    assert client.get(f"/shipments/{home.pk}/invoice.pdf").status_code == 404


def test_a_light_parcel_is_weighed_again_at_the_bench(client, world, blocked):
    client.force_login(make_user("pam", "floor"))
    complete(world.sku)
    client.post(f"/shipments/{blocked.pk}/pack/", {"weight_g": "700"})
    shown = text(client.get(f"/floor/{blocked.pk}/"))
    assert "760 g by their SKUs" in shown and "Weighed again" in shown and "Buy label" not in shown
    shown = text(
        client.post(f"/shipments/{blocked.pk}/pack/", {"from": "bench", "weight_g": "880"}, follow=True)
    )
    assert "Buy label" in shown


def test_a_page_of_many_skus_asks_no_more_than_one_of_few(
    client, world, carrier, django_assert_max_num_queries, django_assert_num_queries
):
    client.force_login(make_user("boss"))
    few = abroad(world, line_draft(world.sku, 1))
    extra = [make_sku(f"S{i}", weight_g=10, length_mm=10, width_mm=10, height_mm=10) for i in range(12)]
    for sku in extra:
        add_stock(sku, world.east, 5)
    many = abroad(world, line_draft(world.sku, 1), *(line_draft(sku, 1) for sku in extra))
    client.get(f"/floor/{few.pk}/")
    with django_assert_max_num_queries(200) as one:
        client.get(f"/floor/{few.pk}/")
    with django_assert_num_queries(len(one)):
        client.get(f"/floor/{many.pk}/")


def test_the_sku_page_keeps_customs_data(client, world):
    client.force_login(make_user("boss"))
    assert 'id="customs"' in text(client.get("/stock/MUG/"))
    client.post(
        f"/stock/sku/{world.sku.pk}/customs/",
        {"hs_code": "6912.00.48", "origin_country": "pt", "customs_description": " Ceramic  mug ",
         "customs_value": "8.50", "weight_g": "390"},
    )  # fmt: skip
    sku = Sku.objects.get(pk=world.sku.pk)
    assert (sku.hs_code, sku.origin_country, sku.customs_description, sku.customs_value, sku.weight_g) == (
        "69120048", "PT", "Ceramic mug", D("8.50"), 390,
    )  # fmt: skip
    shown = text(client.get("/stock/MUG/"))
    assert "69120048" in shown and 'value="8.50"' in shown
    client.post(f"/stock/sku/{world.sku.pk}/customs/", {"hs_code": "65", "customs_value": ""})
    assert Sku.objects.get(pk=world.sku.pk).hs_code == "69120048"
    client.post(f"/stock/sku/{world.sku.pk}/customs/", {"customs_value": ""})
    assert Sku.objects.get(pk=world.sku.pk).customs_value is None


def test_terms_are_kept_in_the_settings(client, db):
    client.force_login(make_user("boss"))
    url = "/settings/customs/"
    assert "DAP everywhere" in text(client.get(url))
    answer = client.post(url, {"destination": "eu", "incoterm": "DDP", "ioss": "IM 3720000224"}, follow=True)
    assert "Kept: DDP to the EU." in text(answer) and "IM3720000224" in text(answer)
    answer = client.post(url, {"destination": "CA", "incoterm": "DAP", "ioss": "IM3720000224"})
    assert answer.status_code == 422 and "for destinations in the EU" in text(answer)
    assert 'value="IM3720000224"' in text(client.get(f"{url}?destination=EU"))
    client.post(f"{url}{CustomsTerms.objects.get().pk}/remove/")
    assert not CustomsTerms.objects.exists()


# --- the interface ------------------------------------------------------------------------------------


def api_of(*scopes: str) -> APIClient:
    boss = make_user(f"boss{len(scopes)}")
    _, secret = tokens.issue(boss, "test", list(scopes), actor=SYSTEM)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


def test_the_interface_answers_422_and_points_to_each_field(world, blocked, carrier):
    api = api_of("shipments:read", "shipments:write", "products:read", "products:write")
    for step in ("rates", "label"):
        if step == "label":
            complete(world.sku)
            rates.shop(blocked.pk)
            Sku.objects.filter(pk=world.sku.pk).update(hs_code="")
        answer = api.post(f"/api/v1/shipments/{blocked.pk}/{step}/", {}, format="json")
        body = answer.json()
        assert answer.status_code == 422 and body["detail"].startswith("customs: S-")
        assert body["errors"][0] == {
            "pointer": "/id", "member": "/lines/0/hs_code", "code": "customs", "message": SENTENCE,
        }  # fmt: skip
    assert carrier.calls == 0
    invoice = f"/api/v1/shipments/{blocked.pk}/commercial-invoice/"
    assert api.get(invoice).status_code == 422
    url = f"/api/v1/skus/{world.sku.pk}/"

    def patch(**values: str) -> Any:
        return api.patch(url, values, format="json", HTTP_IF_MATCH=api.get(url)["ETag"])

    for name, wrong in (("hs_code", "65"), ("origin_country", "XX"), ("customs_value", "-1")):
        refused = patch(**{name: wrong})
        assert refused.status_code == 400 and refused.json()["errors"][0]["pointer"] == f"/{name}"
    kept = patch(
        hs_code="6912.00", origin_country="pt", customs_value="8.50", customs_description="Mug"
    ).json()
    assert (kept["hs_code"], kept["origin_country"], kept["customs_value"]) == ("691200", "PT", "8.5000")
    assert api.post(f"/api/v1/shipments/{blocked.pk}/label/", {}, format="json").status_code == 200
    paper = api.get(invoice)
    assert paper["Content-Type"] == "application/pdf" and paper.content.startswith(b"%PDF")


def test_a_file_of_skus_is_held_to_the_same(world):
    import tablib

    from inventory.resources import SkuResource

    def load(*row: str) -> list[str]:
        data = tablib.Dataset(row, headers=["code", "hs_code", "origin_country", "customs_value"])
        result = SkuResource().import_data(data, raise_errors=False)
        return [str(error.error) for line in result.rows for error in line.errors]

    assert load("MUG", "6912.00", "pt", "8.5") == []
    sku = Sku.objects.get(pk=world.sku.pk)
    assert (sku.hs_code, sku.origin_country, sku.customs_value) == ("691200", "PT", D("8.5"))
    assert "column 'hs_code': '65' is not an HS code" in load("MUG", "65", "PT", "8.5")[0]
    assert "column 'origin_country': 'XX' is not a country" in load("MUG", "691200", "XX", "8.5")[0]
    assert "column 'customs_value': write an amount above zero" in load("MUG", "691200", "PT", "0")[0]


def test_labels_of_a_shipment_that_was_declared_are_bought_again_from_new_data(world, blocked, carrier):
    """After the only label is void nothing is declared any more: the next one says what the SKU says then."""
    complete(world.sku)
    rates.shop(blocked.pk)
    [first] = labels.buy(blocked.pk, actor=SYSTEM)
    labels.void(first.pk, actor=SYSTEM)
    complete(world.sku, hs_code="392410")
    labels.buy(blocked.pk, actor=SYSTEM)
    blocked.refresh_from_db()
    assert {item["hs_code"] for item in blocked.declaration.items} == {"392410"}
