"""The order queue and the order page: what is shown, to whom, in how many queries."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inventory.models import Sku, StockLevel, Warehouse
from oms.core import jobs
from oms.core.access import Scope
from oms.core.actor import Actor
from oms.core.models import Job, User
from oms.orders import selectors, services
from oms.orders.intake import take
from oms.orders.models import Order, SalesChannel
from tests.factories import (
    T0,
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

pytestmark = pytest.mark.django_db
BOT = Actor("channel", "test")
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    cache.clear()


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


@pytest.fixture
def mug(east: Warehouse) -> Sku:
    sku = make_sku("MUG")
    add_stock(sku, east, 1000)
    return sku


@pytest.fixture
def shop(east: Warehouse) -> SalesChannel:
    return make_channel("shop", east, name="Shop")


def enter(channel: SalesChannel, *lines: Any, **fields: Any) -> Order:
    answer = take([order_draft(*lines, **fields)], channel=channel, actor=BOT, source="webhook")[0]
    return Order.objects.select_related("channel").get(pk=answer.order_id)


def login(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def owner() -> Client:
    return login(make_user("olga", "owner"))


def numbers(html: str) -> list[str]:
    """Order numbers in the rows of a list, in order."""
    return re.findall(r'aria-label="Select ([A-Z]+-\d+)"', html)


def test_the_queue_shows_orders_in_few_queries(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    made = [enter(shop, line_draft(mug, 2), placed_at=T0 + dt.timedelta(minutes=n)) for n in range(60)]
    with CaptureQueriesContext(connection) as context:
        response = owner.get("/orders/")
    html = response.content.decode()
    assert response.status_code == 200
    assert numbers(html) == [order.number for order in made[:9:-1]]
    assert len(context) <= 10, "\n".join(query["sql"][:120] for query in context)
    assert "A. Ruiz / US" in html and "1 (2)" in html and "20.00" in html and "EAST" in html

    cursor = re.search(r'hx-get="(\?[^"]*cursor=[^"]+)"', html)
    assert cursor is not None
    rest = owner.get("/orders/" + cursor[1].replace("&amp;", "&"), headers=HTMX).content.decode()
    assert numbers(rest) == [order.number for order in made[9::-1]]
    assert "<table" not in rest, "a fragment of rows only"


def test_views_filters_and_counts(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    now = timezone.now()
    late = enter(shop, line_draft(mug, 1), ship_by=now - dt.timedelta(hours=1))
    calm = enter(shop, line_draft(mug, 1), ship_by=now + dt.timedelta(days=9))
    held = enter(shop, line_draft(mug, 1), ship_by=now + dt.timedelta(days=9), risk="high")
    short = enter(shop, line_draft(mug, 2000), ship_by=now + dt.timedelta(days=9))
    unknown = enter(shop, line_draft("NOPE", 1), ship_by=now + dt.timedelta(days=9))

    def shown(query: str) -> set[str]:
        return set(numbers(owner.get(f"/orders/{query}").content.decode()))

    assert shown("?view=late") == {late.number}
    assert shown("?view=on_hold") == {held.number}
    assert shown("?view=backorder") == {short.number}
    assert shown("?view=unmapped") == {unknown.number}
    assert shown("?view=to_route") == {late.number, calm.number, short.number, unknown.number}
    assert shown("?view=nonsense&state=nonsense") == {o.number for o in (late, calm, held, short, unknown)}
    assert shown("?q=MUG") == {late.number, calm.number, held.number, short.number}
    assert shown("?q=rui") == {o.number for o in (late, calm, held, short, unknown)}
    assert shown("?channel=shop&warehouse=WEST") == set()
    html = owner.get("/orders/").content.decode()
    tabs = dict(re.findall(r">(To route|Late|On hold|Backorder|Unknown SKU) <b[^>]*>(\d+)</b>", html))
    assert tabs == {"To route": "4", "Late": "1", "On hold": "1", "Backorder": "1", "Unknown SKU": "1"}


def test_an_exact_number_opens_the_order(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 1))
    assert owner.get(f"/orders/?q={order.number.lower()}").headers["Location"] == f"/orders/{order.number}/"


def test_empty_lists_say_what_to_do(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    assert "No orders yet" in owner.get("/orders/").content.decode()
    enter(shop, line_draft(mug, 1))
    assert "No order matches" in owner.get("/orders/?q=zzzzz").content.decode()


def test_the_order_page(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 2), external_number="#1041", risk="high")
    with CaptureQueriesContext(connection) as context:
        response = owner.get(f"/orders/{order.number}/")
    html = response.content.decode()
    assert response.status_code == 200
    assert len(context) <= 20
    for text in (
        order.number,
        "#1041",
        "Fraud risk",
        "1 Main St",
        "ana@example.com",
        "EAST 2",
        "Reserved 2 at EAST",
        "20.00",
    ):
        assert text in html, text
    assert f'hx-get="/routing/orders/{order.pk}/panel/"' in html
    assert owner.get(f"/orders/{order.pk}/").headers["Location"] == f"/orders/{order.number}/"
    assert owner.get("/orders/SH-99999/").status_code == 404


def test_buyer_data_is_masked_for_those_who_may_not_see_it(shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 1))
    html = login(make_user("vera", "viewer")).get(f"/orders/{order.number}/").content.decode()
    assert "A. Ruiz" in html and "Austin" in html
    assert "1 Main St" not in html and "ana@example.com" not in html and "Ana Maria" not in html
    assert "/cancel/" not in html and "/hold/" not in html


def test_hostile_text_is_escaped(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    evil = "<script>alert(1)</script>\"'{{7*7}}"
    order = enter(
        shop,
        line_draft(mug, 1, title=evil),
        line_draft(evil, 1),
        service_level=evil,
        tags=(evil,),
        external_number=evil,
    )
    for path in ("/orders/", f"/orders/{order.number}/"):
        html = owner.get(path).content.decode()
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html


def test_foreign_orders_do_not_exist(shop: SalesChannel, east: Warehouse, mug: Sku) -> None:
    other = enter(make_channel("other", east, prefix="OT"), line_draft(mug, 1))
    lead = login(make_user("lea", "ops", channels=("shop",)))
    assert lead.get("/orders/").content.decode().count(other.number) == 0
    assert lead.get(f"/orders/{other.number}/").status_code == 404
    for action in ("hold", "release", "cancel", "note", "tags", "map"):
        assert lead.post(f"/orders/{other.number}/{action}/", {"reason": "person"}).status_code == 404
    lead.post("/orders/bulk/", {"action": "hold", "ids": [other.pk]})
    other.refresh_from_db()
    assert other.holds_open == 0
    buyer = login(make_user("bob", "buyer"))
    assert buyer.get("/orders/").status_code == 403
    assert Client().get("/orders/").status_code == 302


def test_counts_of_one_scope_are_not_shown_to_another(shop: SalesChannel, mug: Sku) -> None:
    def views(scope: Scope) -> dict[str, int]:
        return selectors.page_counts(scope, Order.objects.all()).views

    enter(shop, line_draft(mug, 1))
    assert views(Scope())["to_route"] == 1
    assert views(Scope(channels=frozenset()))["to_route"] == 0
    assert views(Scope(channels=frozenset({"other"})))["to_route"] == 0


def test_reading_needs_get_and_acting_needs_post(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 1))
    for action in ("hold", "release", "cancel", "note", "tags", "map"):
        assert owner.get(f"/orders/{order.number}/{action}/").status_code == 405
    viewer = login(make_user("vera", "viewer"))
    assert viewer.post(f"/orders/{order.number}/hold/", {"reason": "person"}).status_code == 403
    order.refresh_from_db()
    assert order.holds_open == 0


def test_acting_on_one_order(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 5))
    at = f"/orders/{order.number}"
    owner.post(f"{at}/hold/", {"reason": "address", "note": "no street"})
    assert "no street" in owner.get(f"{at}/").content.decode()
    owner.post(f"{at}/release/", {"hold": order.holds.get().pk})
    owner.post(f"{at}/note/", {"text": "called her"})
    owner.post(f"{at}/tags/", {"tags": "vip, gift"})
    owner.post(f"{at}/cancel/", {f"line-{order.lines.get().pk}": "2", "reason": "buyer"})
    order.refresh_from_db()
    line = order.lines.get()
    assert (order.holds_open, order.tags, line.cancelled, line.reserved) == (0, ["vip", "gift"], 2, 3)
    assert "called her" in owner.get(f"{at}/").content.decode()
    response = owner.post(f"{at}/cancel/", {f"line-{line.pk}": "9", "reason": "buyer"}, follow=True)
    assert "only 3 of 5 can still be cancelled" in response.content.decode()


def test_mapping_on_the_order_page(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft("OLD", 2))
    assert "Unknown SKU “OLD”" in owner.get(f"/orders/{order.number}/").content.decode()
    owner.post(f"/orders/{order.number}/map/", {"external_sku": "OLD", "sku": "mug", "remember": "on"})
    order.refresh_from_db()
    assert (order.unmapped_lines, mug.aliases.get().value) == (0, "OLD")


def test_bulk_hold_and_release_tell_what_was_skipped(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    made = [enter(shop, line_draft(mug, 1)) for _ in range(3)]
    services.cancel_lines(made[2].pk, reason="buyer", actor=BOT)
    response = owner.post("/orders/bulk/", {"action": "hold", "ids": [o.pk for o in made]}, follow=True)
    text = (
        f"2 held, 1 skipped: {made[2].number} – {made[2].number} is cancelled: there is nothing to hold back."
    )
    assert text in response.content.decode()
    assert Order.objects.filter(holds_open=1).count() == 2
    owner.post("/orders/bulk/", {"action": "release", "all": "1", "query": "view=on_hold"})
    assert Order.objects.filter(holds_open=1).count() == 0


def test_more_than_a_hundred_become_a_job(owner: Client, shop: SalesChannel, mug: Sku) -> None:
    take([order_draft(line_draft(mug, 1)) for _ in range(101)], channel=shop, actor=BOT, source="poll")
    owner.post("/orders/bulk/", {"action": "hold", "all": "1", "query": ""})
    assert Order.objects.filter(holds_open=1).count() == 0
    job = Job.objects.get()
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert (job.state, job.ok, job.failed) == ("done", 101, 0)
    assert Order.objects.filter(holds_open=1).count() == 101


def form(**changes: Any) -> dict[str, Any]:
    return {
        "form_key": str(uuid.uuid4()), "channel": "phone", "kind": "sale", "name": "Ana Ruiz", "address1": "1 Main St",
        "city": "Austin", "country": "us", "shipping": "5",
        "lines-TOTAL_FORMS": "6", "lines-INITIAL_FORMS": "0", "lines-MIN_NUM_FORMS": "0", "lines-MAX_NUM_FORMS": "200",
        "lines-0-sku": "mug", "lines-0-quantity": "3", "lines-0-unit_price": "12.50", **changes,
    }  # fmt: skip


def test_an_order_by_hand_is_entered_once(owner: Client, east: Warehouse, mug: Sku) -> None:
    assert "No channel for orders by hand" in owner.get("/orders/new/").content.decode()
    make_channel("phone", east, name="Phone", kind="manual", prefix="PH")
    page = owner.get("/orders/new/").content.decode()
    assert 'name="lines-0-sku"' in page and 'name="form_key"' in page
    data = form()
    first, second = owner.post("/orders/new/", data), owner.post("/orders/new/", data)
    order = Order.objects.get()
    assert first.headers["Location"] == second.headers["Location"] == f"/orders/{order.number}/"
    assert (order.total, order.source, StockLevel.objects.get().reserved) == (42.5, "manual", 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lines-0-sku": "NOPE"}, "lines[1].sku: there is no SKU or alias &#x27;NOPE&#x27;."),
        ({"lines-0-quantity": "-1"}, "Ensure this value is greater than or equal to 1."),
        ({"lines-0-quantity": ""}, "Give a whole number of at least 1."),
        (
            {"lines-0-sku": "", "lines-0-quantity": "", "lines-0-unit_price": ""},
            "lines: add at least one line.",
        ),
        ({"country": "USA"}, "Ensure this value has at most 2 characters"),
        ({"name": ""}, "This field is required."),
    ],
)
def test_a_wrong_form_comes_back_with_its_words(
    owner: Client, east: Warehouse, mug: Sku, changes: dict[str, str], sentence: str
) -> None:
    make_channel("phone", east, kind="manual", prefix="PH")
    response = owner.post("/orders/new/", form(**changes))
    assert response.status_code == 422
    assert sentence in response.content.decode()
    assert "1 Main St" in response.content.decode(), "what was typed is kept"
    assert Order.objects.count() == 0


def test_admin_shows_orders_read_only(shop: SalesChannel, mug: Sku) -> None:
    order = enter(shop, line_draft(mug, 1))
    admin = User.objects.create_superuser("root", password="correct horse battery")
    client = login(admin)
    assert client.get("/admin/orders/order/").status_code == 200
    assert client.get(f"/admin/orders/order/{order.pk}/change/").status_code == 200
    assert client.post(f"/admin/orders/order/{order.pk}/change/", {"state": "shipped"}).status_code == 403
    assert client.get("/admin/orders/saleschannel/add/").status_code == 200
