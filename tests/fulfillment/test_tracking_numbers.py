"""F17: a number that its carrier hardly gave out is caught where it is typed; a person may insist."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from fulfillment import labels
from fulfillment.carriers.table_rate.labels import tracking_number
from fulfillment.carriers.tracking_numbers import doubt
from fulfillment.models import LabelPurchase
from oms.core import tokens
from oms.core.actor import SYSTEM
from tests.factories import make_user

OURS = tracking_number("6f1d3c0e-5c0a-5e0b-9c55-1ad1465c10ad")
#: published samples of the carriers
GOOD = [
    ("UPS", "1Z999AA10123456784"),
    ("ups ground", "1Z 999 AA1 01 2345 6784"),
    ("USPS", "9400111899561704681189"),
    ("USPS", "9400 1118 9956 1704 6811 89"),
    ("USPS", "420221539101026837331000039521"),
    ("USPS", "RB123456785GB"),
    ("FedEx", "986578788855"),
    ("FedEx", "041441760228964"),
    ("FedEx", "9611020987654312345672"),
    ("DHL Express", "3318810025"),
    ("any van", OURS),
]


@pytest.mark.parametrize(("carrier", "number"), GOOD)
def test_numbers_that_carriers_give_out(carrier: str, number: str) -> None:
    assert doubt(carrier, number) == ""


@pytest.mark.parametrize(("carrier", "number"), GOOD)
def test_one_wrong_digit_is_doubted(carrier: str, number: str) -> None:
    at = max(i for i, char in enumerate(number) if char.isdigit())  # S10 ends with letters
    wrong = number[:at] + str((int(number[at]) + 1) % 10) + number[at + 1 :]
    assert f"{wrong} does not look like a number of {carrier}" in doubt(carrier, wrong)


@pytest.mark.parametrize(
    ("carrier", "number"),
    [
        ("UPS", "1Z999"),
        ("UPS", "94O0"),
        ("USPS", "1Z999AA10123456784"),
        ("FedEx", "12345"),
        ("DHL Express", "33188"),
    ],
)
def test_numbers_of_another_carrier_are_doubted(carrier: str, number: str) -> None:
    assert doubt(carrier, number)


def test_nothing_is_known_of_other_carriers() -> None:
    assert doubt("Groups & Co", "1") == doubt("OnTrac", "D1001") == doubt("DHL Paket", "x") == ""


def test_a_person_may_insist(world, carrier, client):
    shipment = world.packed(1)
    client.force_login(make_user("pam", "floor"))
    url, typed = (
        f"/shipments/{shipment.pk}/enter/",
        {"carrier": "UPS", "tracking_number": "1Z999AA10123456785"},
    )
    for page in ("bench", "shipment"):
        answer = client.post(url, typed | {"from": page})
        shown = answer.content.decode()
        assert answer.status_code == 422 and "does not look like a number of UPS" in shown
        assert 'value="1Z999AA10123456785"' in shown and 'name="sure"' in shown
    assert not LabelPurchase.objects.exists()
    assert client.post(url, typed | {"sure": "1"}).status_code == 302
    assert LabelPurchase.objects.get().tracking_number == "1Z999AA10123456785"


def test_the_interface_says_that_it_doubts_and_takes_a_sure_number(world, carrier):
    shipment = world.packed(1)
    _, secret = tokens.issue(make_user("boss"), "t", ["shipments:read", "shipments:write"], actor=SYSTEM)
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    url, body = (
        f"/api/v1/shipments/{shipment.pk}/enter-label/",
        {"carrier": "USPS", "tracking_number": "9400111"},
    )
    refused = api.post(url, body, format="json")
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["pointer"] == "/tracking_number"
    assert refused.json()["errors"][0]["code"] == "doubtful_number"
    assert api.post(url, body | {"sure": True}, format="json").status_code == 200


def test_a_number_found_at_the_carrier_is_checked_too(world, carrier, client):
    shipment = world.packed(1)
    carrier.plan = ["lost"]
    [purchase] = labels.buy(shipment.pk, actor=SYSTEM)
    purchase.account.config = {"carrier_code": "ups"}
    purchase.account.save()
    with pytest.raises(labels.Doubtful, match="does not look like a number of Played"):
        labels.decide_bought(purchase.pk, tracking_number="1Z999", actor=SYSTEM)
    client.force_login(make_user("pam", "floor"))
    url = f"/shipments/{shipment.pk}/bought/"
    answer = client.post(url, {"label": purchase.pk, "tracking_number": "1Z999"})
    assert answer.status_code == 422 and 'name="sure"' in answer.content.decode()
    client.post(url, {"label": purchase.pk, "tracking_number": "1Z999", "sure": "1"})
    purchase.refresh_from_db()
    assert (purchase.state, purchase.tracking_number) == (LabelPurchase.State.PURCHASED, "1Z999")
