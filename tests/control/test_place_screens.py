"""Settings of a warehouse and of carriers: what is saved, what is refused, and that it is written down."""

from __future__ import annotations

import datetime as dt

import pytest
from django.test import Client

from fulfillment.models import CarrierAccount
from inventory import places
from inventory.models import Bin, Warehouse
from oms.core.actor import SYSTEM
from oms.core.errors import Conflict, UserError
from oms.core.models import AuditEntry, User
from tests.factories import make_user, make_warehouse

pytestmark = pytest.mark.django_db


@pytest.fixture
def east(client: Client) -> Warehouse:
    client.force_login(make_user("ana", "owner"))
    return make_warehouse("EAST", time_zone="America/New_York")


def act(client: Client, action: str, **values: object) -> str:
    answer = client.post("/settings/warehouses/EAST/act/", {"action": action, **values}, follow=True)
    return answer.content.decode()


def test_the_working_week_is_replaced_as_a_whole(client: Client, east: Warehouse) -> None:
    act(client, "hours", **{"cut-0": "15:00", "cut-4": "12:30"})
    act(client, "hours", **{"cut-0": "16:00", "cut-5": "11:00"})
    rows = {row.weekday: row.cut_off for row in east.hours.all()}
    assert rows == {0: dt.time(16), 5: dt.time(11)}
    told = AuditEntry.objects.filter(action="warehouse.hours").latest("id")
    assert (told.before, told.after) == ({"0": "15:00", "4": "12:30"}, {"0": "16:00", "5": "11:00"})
    assert "Monday: &#x27;late&#x27; is not a time; write 15:00." in act(client, "hours", **{"cut-0": "late"})
    assert "name at least one working day" in act(client, "hours")
    assert east.hours.count() == 2


def test_closed_days_do_not_overlap_and_can_be_taken_back(client: Client, east: Warehouse) -> None:
    far = dt.date.today() + dt.timedelta(days=40)
    act(client, "close", first_day=str(far), last_day=str(far + dt.timedelta(days=2)), reason="Stock taking")
    closure = east.closures.get()
    assert (closure.last_day - closure.first_day).days == 2
    with pytest.raises(Conflict, match="closed on some of them already"):
        places.close_days("EAST", closure.last_day, closure.last_day, "again", actor=SYSTEM)
    with pytest.raises(UserError, match="lies before the first"):
        places.close_days("EAST", far, far - dt.timedelta(days=1), "back", actor=SYSTEM)
    act(client, "open", closure=closure.pk)
    assert not east.closures.exists()


def test_a_bin_is_added_once_and_switched(client: Client, east: Warehouse) -> None:
    act(client, "bin", bin="a-03-2", zone="A", sequence="7")
    assert "A-03-2 exists already" in act(client, "bin", bin="A-03-2")
    made = Bin.objects.get()
    assert (made.code, made.zone, made.pick_sequence, made.is_active) == ("A-03-2", "A", 7, True)
    act(client, "bin-off", bin_id=made.pk)
    assert not Bin.objects.get().is_active


def test_facts_are_checked_and_written_down(client: Client, east: Warehouse) -> None:
    shown = client.get("/settings/warehouses/EAST/").context["form"].initial
    values = {name: value for name, value in shown.items() if value is not None}
    refused = client.post("/settings/warehouses/EAST/", {**values, "time_zone": "Mars/Base"})
    assert (
        refused.status_code == 422
        and "is unknown; write it like America/New_York" in refused.content.decode()
    )
    saved = client.post("/settings/warehouses/EAST/", {**values, "city": "Newark", "country": "us"})
    assert saved.status_code == 302
    assert AuditEntry.objects.get(action="warehouse.changed").after == {"city": "Newark"}


def test_a_carrier_is_switched_off_and_on(client: Client, east: Warehouse) -> None:
    account = CarrierAccount.objects.create(code="own", name="Own prices", connector="table_rate")
    assert "Own prices" in client.get("/settings/carriers/").content.decode()
    client.post(f"/settings/carriers/{account.pk}/act/", {"action": "off"})
    account.refresh_from_db()
    assert not account.is_active
    assert AuditEntry.objects.get(action="carrier.switched").after == {"active": False}


def test_a_carrier_whose_labels_others_buy_is_never_asked(client: Client, east: Warehouse) -> None:
    """Switched on it would be asked with the others, and nobody could compare rates any more."""
    outside = CarrierAccount.objects.create(code="3pl-ups", name="UPS", connector="threepl", is_active=False)
    page = client.get("/settings/carriers/").content.decode()
    assert "Labels bought elsewhere" in page and ">3PL</td>" in page
    answer = client.post(f"/settings/carriers/{outside.pk}/act/", {"action": "on"}, follow=True)
    assert "labels of UPS are bought elsewhere" in answer.content.decode()
    outside.refresh_from_db()
    assert not outside.is_active


def test_a_carrier_account_is_made_in_data_repair_and_no_unknown_one(client: Client, east: Warehouse) -> None:
    User.objects.update(is_staff=True, is_superuser=True)
    values = {
        "code": "van", "name": "Own vans", "connector": "ups", "currency": "USD", "preference": "10",
        "config": "{}", "is_active": "on",
    }  # fmt: skip
    address = "/admin/fulfillment/carrieraccount/add/"
    assert "is no carrier; choose one of table_rate" in client.post(address, values).content.decode()
    assert client.post(address, {**values, "connector": "table_rate"}).status_code == 302
    made = CarrierAccount.objects.get()
    assert (made.code, made.connector, made.is_active) == ("van", "table_rate", True)
    assert (
        "credentials"
        not in client.get(f"/admin/fulfillment/carrieraccount/{made.pk}/change/").content.decode()
    )


def test_only_settings_people_may(client: Client, east: Warehouse) -> None:
    client.force_login(make_user("finn", "floor"))
    for path in ("/settings/warehouses/EAST/", "/settings/carriers/"):
        assert client.get(path).status_code == 403
    assert client.post("/settings/warehouses/EAST/act/", {"action": "hours"}).status_code == 403
    assert User.objects.count() == 2
