"""X08 saved views with counts, columns and row height per person, the warehouse switch, the queue as a file."""

from __future__ import annotations

import datetime as dt
import importlib
import json
from decimal import Decimal

import pytest
from django.core.cache import cache
from django.test import Client, RequestFactory

from oms.core import lists
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.errors import Conflict, NotAllowed, UserError
from oms.core.exceptions_inbox import raise_item
from oms.core.models import ExceptionItem, SavedView, User
from oms.orders import intake, services
from oms.orders.models import Hold, Order
from tests.factories import (
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh() -> None:
    cache.clear()


@pytest.fixture
def owner(client: Client) -> User:
    user = make_user("ana", "owner")
    client.force_login(user)
    return user


def orders(count: int) -> list[Order]:
    east, mug = make_warehouse("EAST"), make_sku("MUG")
    add_stock(mug, east, 100)
    shop = make_channel("shop", east)
    drafts = [order_draft(line_draft(mug), placed_at=now() - dt.timedelta(minutes=n)) for n in range(count)]
    intake.take(drafts, channel=shop, actor=SYSTEM, source="manual")
    return list(Order.objects.order_by("pk"))


def save(client: Client, name: str, query: str, **values: str) -> None:
    client.post(
        "/lists/views/",
        {"screen": "orders:list", "name": name, "query": query, "pinned": "on", **values},
        HTTP_REFERER="http://testserver/orders/",
    )


def test_a_view_comes_back_with_its_count_kept_for_thirty_seconds(client: Client, owner: User) -> None:
    made = orders(3)
    services.place_hold(made[0].pk, Hold.Reason.PERSON, actor=SYSTEM)
    save(client, "Stuck", "view=on_hold")
    view = SavedView.objects.get()
    html = client.get("/orders/").content.decode()
    assert f'?view=on_hold&amp;saved={view.pk}"' in html
    tab = next(one for one in client.get("/orders/").context["tabs"] if one["label"] == "Stuck")
    assert (tab["count"], tab["active"]) == (1, False)
    services.place_hold(made[1].pk, Hold.Reason.PERSON, actor=SYSTEM)
    opened = client.get(f"/orders/?view=on_hold&saved={view.pk}").context["tabs"]
    assert [one["label"] for one in opened if one["active"]] == ["Stuck"]
    assert next(one for one in opened if one["label"] == "Stuck")["count"] == 1, (
        "counted anew after 30 s only"
    )
    cache.clear()
    assert (
        next(one for one in client.get("/orders/").context["tabs"] if one["label"] == "Stuck")["count"] == 2
    )


def test_private_views_are_private_and_a_role_shares_its_own(client: Client, owner: User) -> None:
    save(client, "Mine", "q=a")
    save(client, "For all", "q=b", **{"for": "all"})
    save(client, "For the floor", "q=c", **{"for": "floor"})
    names = {
        role: [one.name for one in lists.visible_views(make_user(role, role), "orders:list")]
        for role in ("floor", "support")
    }
    assert names == {"floor": ["For all", "For the floor"], "support": ["For all"]}
    with pytest.raises(NotAllowed, match="sharing one needs the right"):
        lists.save_view(
            User.objects.get(username="support"), "orders:list", "Loud", "", shared=True, actor=SYSTEM
        )
    other = make_user("bob", "owner")
    with pytest.raises(Conflict, match="is called 'For all' already"):
        lists.save_view(other, "orders:list", "For all", "", shared=True, actor=SYSTEM)


def test_a_view_is_unpinned_and_removed_by_its_owner_only(client: Client, owner: User) -> None:
    save(client, "Mine", "q=a")
    view = SavedView.objects.get()
    client.post(f"/lists/views/{view.pk}/", {"action": "unpin"})
    assert "Mine" not in [one["label"] for one in client.get("/orders/").context["tabs"]]
    client.force_login(make_user("bob", "ops"))
    assert client.post(f"/lists/views/{view.pk}/", {"action": "remove"}).status_code == 404
    client.force_login(owner)
    client.post(f"/lists/views/{view.pk}/", {"action": "remove"})
    assert not SavedView.objects.exists()


def test_columns_and_height_are_kept_per_person(client: Client, owner: User) -> None:
    orders(1)
    offered = ["Channel", "Placed", "Total"]
    form = {"screen": "orders:list", "density": "compact", "offered": offered, "shown": ["Placed"]}
    assert client.post("/lists/settings/", form, HTTP_HX_REQUEST="true").status_code == 204
    html = client.get("/orders/").content.decode()
    assert 'data-hide="3 8"' in html and 'data-density="compact"' in html
    assert 'data-hide=""' in client.get("/stock/").content.decode()
    client.force_login(make_user("bob", "ops"))
    assert 'data-hide=""' in client.get("/orders/").content.decode()


def test_a_hidden_column_stays_hidden_when_its_place_changes(rf: RequestFactory, owner: User) -> None:
    lists.hide_columns(owner, "stock", ["Title"], ["Title", "Reserved"])
    request = rf.get("/")
    request.user = owner
    assert lists.tools(request, "stock", ((2, "Title"), (4, "Reserved"))).hide == "4"
    assert lists.tools(request, "stock", ((3, "Title"), (5, "Reserved"))).hide == "5", (
        "a checkbox came in front"
    )
    with pytest.raises(UserError, match="out of date"):
        lists.hide_columns(owner, "stock", [], ["x" * 41])


def test_columns_kept_by_number_get_their_names() -> None:
    names = importlib.import_module("oms.core.migrations.0005_columns_by_name").named
    assert names({"inventory:stock": [4], "orders:list": [3, 8], "gone": [2]}) == {
        "inventory:stock": ["Reserved"],
        "orders:list": ["Channel", "Total"],
    }


def test_new_orders_are_announced_and_not_slipped_in(client: Client, owner: User) -> None:
    made = orders(3)
    asked = client.get(f"/orders/?since={made[0].pk}", HTTP_HX_REQUEST="true")
    assert "2 new orders · Show" in asked.content.decode() and "<tr" not in asked.content.decode()
    assert client.get(f"/orders/?since={made[2].pk}", HTTP_HX_REQUEST="true").status_code == 204


def test_the_queue_as_a_file_has_the_rows_of_the_filters(client: Client, owner: User) -> None:
    made = orders(3)
    services.set_tags(made[1].pk, ["=gift"], actor=SYSTEM)
    answer = client.get("/orders/?tag=%3Dgift&format=csv")
    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert len(lines) == 2 and lines[1].startswith(made[1].number) and lines[1].endswith(",'=gift")


def test_lists_open_in_the_chosen_warehouse(client: Client, owner: User) -> None:
    orders(1)
    make_warehouse("WEST")
    went = client.post("/warehouse/", {"warehouse": "WEST", "next": "/stock/?view=out"})
    assert went["Location"] == "/stock/?view=out&warehouse=WEST"
    html = client.get("/").content.decode()
    assert 'href="/orders/?warehouse=WEST"' in html and 'href="/channels/"' in html
    assert client.post("/warehouse/", {"warehouse": "MOON"}).status_code == 404
    back = client.post("/warehouse/", {"warehouse": "", "next": "/stock/?view=out&warehouse=WEST"})
    assert back["Location"] == "/stock/?view=out"


def test_the_inbox_puts_money_at_stake_before_what_costs_nothing(client: Client, owner: User) -> None:
    raise_item("below_reorder", "reorder:1", "cheap and old")
    raise_item("adjustment", "adjustment:1", "dear and new", money=Decimal("77.60"))
    html = client.get("/exceptions/").content.decode()
    assert html.index("dear and new") < html.index("cheap and old")


def test_an_exception_is_mended_where_it_stands_and_every_step_can_be_taken_back(
    client: Client, owner: User
) -> None:
    made = orders(1)
    raise_item("no_route", f"route:{made[0].pk}", "no route", channel_code="shop")
    raise_item("label_failed", "label:7", "no label", url="/shipments/31")
    raise_item("engine_failed", "engine:x", "engine")
    html = client.get("/exceptions/").content.decode()
    assert f'action="/routing/orders/{made[0].pk}/"' in html and "Route again" in html
    assert 'action="/shipments/31/label/"' in html and "Buy again" in html
    client.force_login(make_user("fay", "finance"))
    assert "Route again" not in client.get("/exceptions/").content.decode()
    client.force_login(owner)
    item = ExceptionItem.objects.get(kind="engine_failed")
    for action, values in (
        ("take", {}),
        ("snooze", {"minutes": "60", "reason": "x"}),
        ("close", {"why": "x"}),
    ):
        done = client.post(
            "/exceptions/act/", {"action": action, "ids": [item.pk], **values}, HTTP_HX_REQUEST="true"
        )
        undo = json.loads(done["HX-Trigger"])["toast"]["undo"]
        assert client.post(undo["url"], undo["values"], HTTP_HX_REQUEST="true").status_code == 204
        item.refresh_from_db()
        assert (item.owner, item.snoozed_until, item.closed_at) == (None, None, None), action
    page = client.post("/exceptions/act/", {"action": "take", "ids": [item.pk]}, follow=True).content.decode()
    assert f'name="ids" value="{item.pk}"' in page and ">Undo</button>" in page
