"""Two people press at the same moment, over HTTP on a running server: one effect, the other gets a sentence."""

from __future__ import annotations

import html
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.test import Client

from fulfillment import labels
from fulfillment.models import LabelPurchase, Shipment
from inventory import counts, operations, transfers
from inventory.models import AdjustmentRequest, CountTask, Sku, StockLevel, StockMovement, Transfer, Warehouse
from oms.core.actor import SYSTEM, Actor
from procurement import purchase_orders
from procurement.models import PurchaseOrder, Receipt, Supplier, SupplierOffer
from returns import rma
from returns.models import Disposition, Rma
from tests.factories import add_stock, make_sku, make_user, make_warehouse
from tests.fulfillment.conftest import PlayedCarrier, World
from tests.fulfillment.conftest import carrier as carrier
from tests.fulfillment.conftest import world as world
from tests.returns.test_returns import shipped as shipped

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

#: times that each race is run: the losers change
ROUNDS = 2
Form = dict[str, Any]


class Session:
    """A person in a browser: pages are read, forms are sent with the page's own tokens."""

    def __init__(self, url: str, name: str) -> None:
        self.user = make_user(name)
        client = Client()
        client.force_login(self.user)
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=30, follow_redirects=True)
        for key, morsel in client.cookies.items():
            self.http.cookies.set(key, morsel.value)

    def open(self, path: str) -> Form:
        """The hidden tokens of a page's forms."""
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text[:500]
        names = ("csrfmiddlewaretoken", "form_key")
        found = {name: re.search(rf'name="{name}" value="([^"]+)"', answer.text) for name in names}
        return {name: one.group(1) for name, one in found.items() if one}

    def send(self, path: str, form: Form) -> httpx.Response:
        return self.http.post(path, data=form, headers={"Referer": str(self.http.base_url)})


@dataclass
class Two:
    anna: Session
    omar: Session

    def race(self, *calls: Callable[[], httpx.Response]) -> list[httpx.Response]:
        """All calls at once; their answers in order. None of them may break."""
        gate, answers = threading.Barrier(len(calls)), dict[int, httpx.Response]()

        def run(place: int) -> None:
            gate.wait(30)
            answers[place] = calls[place]()

        threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        found = [answers[place] for place in range(len(calls))]
        assert all(answer.status_code < 500 for answer in found), [answer.text[:300] for answer in found]
        return found

    def both(self, path: str, form: Form, page: str = "") -> list[httpx.Response]:
        """Both have the same page open, each with tokens of their own, and send the same."""
        opened = [(one, {**one.open(page or path), **form}) for one in (self.anna, self.omar)]
        return self.race(*[lambda one=one, form=form: one.send(path, form) for one, form in opened])

    def twice(self, path: str, form: Form, page: str = "") -> list[httpx.Response]:
        """One person clicks twice: the same form with the same tokens, on two connections."""
        sent = {**self.anna.open(page or path), **form}
        return self.race(*[lambda: self.anna.send(path, sent)] * 2)


@pytest.fixture
def two(live_server: Any) -> Iterator[Two]:
    found = Two(Session(live_server.url, "anna"), Session(live_server.url, "omar"))
    yield found
    for one in (found.anna, found.omar):
        one.http.close()


def errors(answer: httpx.Response) -> list[str]:
    """What the page says went wrong: in a message, or where it stands on a page of its own."""
    text = html.unescape(answer.text)
    found = re.findall(r'<div class="toast error"[^>]*><span>(.*?)</span>', text)
    if answer.status_code >= 400:
        found += re.findall(r"<main.*?</main>", text, re.DOTALL)
    return found


def one_of(answers: list[httpx.Response], *words: str) -> None:
    """One was taken; the other one is told why not, with one of these words."""
    told = [found for answer in answers if (found := errors(answer))]
    assert len(told) == 1 or told[1:] == told[:1], told  # both windows of one person show it
    assert any(re.search(word, told[0][0]) for word in words), told


def fine(answers: list[httpx.Response]) -> None:
    """One effect, and nobody is told of an error: the same form twice is one wish."""
    assert not [found for answer in answers for found in errors(answer)]


def on_hand(sku: Sku, place: Warehouse) -> int:
    return StockLevel.objects.get(sku=sku, warehouse=place).on_hand


@pytest.fixture
def east() -> Warehouse:
    return make_warehouse("EAST")


def counted(sku: Sku, place: Warehouse, units: int) -> CountTask:
    task = counts.ask(sku.pk, place.pk, cause=CountTask.Cause.MANUAL, actor=SYSTEM)
    return counts.submit(task.pk, units, actor=SYSTEM)


def test_a_count_is_posted_once(two: Two, east: Warehouse, assert_invariants: Callable[[], None]) -> None:
    sku = make_sku("MUG")
    add_stock(sku, east, 10)
    for round_ in range(ROUNDS):
        before = on_hand(sku, east)
        path = f"/stock/counts/{counted(sku, east, before - 2).pk}/"
        way = two.both if round_ else two.twice
        one_of(way(path, {"step": "accept"}), "no difference to post")
        assert on_hand(sku, east) == before - 2
    assert_invariants()


def test_two_people_count_the_same_shelf_differently(two: Two, east: Warehouse) -> None:
    sku = make_sku("MUG")
    add_stock(sku, east, 10)
    task = counts.ask(sku.pk, east.pk, cause=CountTask.Cause.MANUAL, actor=SYSTEM)
    path = f"/stock/counts/{task.pk}/"
    forms = [
        (one, {**one.open(path), "step": "submit", "counted": n}) for one, n in ((two.anna, 8), (two.omar, 7))
    ]
    answers = two.race(*[lambda one=one, form=form: one.send(path, form) for one, form in forms])
    one_of(answers, "already")
    task.refresh_from_db()
    assert (task.state, task.counted) in (("counted", 7), ("counted", 8))


def moved(sku: Sku, east: Warehouse, west: Warehouse, units: int) -> Transfer:
    made = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={sku.pk: units}, actor=SYSTEM
    )
    return transfers.ship_transfer(made.pk, actor=SYSTEM)


def test_a_transfer_arrives_once(two: Two, east: Warehouse, assert_invariants: Callable[[], None]) -> None:
    sku, west = make_sku("MUG"), make_warehouse("WEST")
    add_stock(sku, east, 50)
    for round_ in range(ROUNDS):
        item = moved(sku, east, west, 10)
        path, line = f"/stock/transfers/{item.pk}/", item.lines.get()
        form = {"step": "receive", f"units-{line.pk}": 10}
        if round_:
            one_of(two.both(path, form), "nothing is in transit")
        else:  # one form twice is one effect, not an error
            fine(two.twice(path, form))
        assert on_hand(sku, west) == 10 * (round_ + 1)
    assert_invariants()


def test_a_transfer_leaves_once(two: Two, east: Warehouse, assert_invariants: Callable[[], None]) -> None:
    sku, west = make_sku("MUG"), make_warehouse("WEST")
    add_stock(sku, east, 50)
    made = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={sku.pk: 10}, actor=SYSTEM
    )
    line = made.lines.get()
    two.both(f"/stock/transfers/{made.pk}/", {"step": "ship", f"units-{line.pk}": 10})
    assert (on_hand(sku, east), StockLevel.objects.get(warehouse=west).in_transit) == (40, 10)
    assert_invariants()


def test_a_returned_unit_is_judged_once(
    two: Two, shipped: Any, assert_invariants: Callable[[], None]
) -> None:
    place = shipped.shipments.get().warehouse
    for round_ in range(ROUNDS):
        item = rma.open_rma(
            order_id=shipped.pk, items=[rma.ReturnItem(shipped.lines.get().pk, 1)], warehouse_id=place.pk, actor=SYSTEM
        )  # fmt: skip
        line = item.lines.get()
        rma.receive(item.pk, {line.pk: 1}, actor=SYSTEM, key=f"r{round_}")
        path = f"/returns/{item.pk}/inspect/"
        form = {"line": line.pk, "quantity": 1, "condition": "new", "outcome": "restock"}
        if round_:
            one_of(two.both(path, form, f"/returns/{item.pk}/"), "0 wait for inspection")
        else:
            fine(two.twice(path, form, f"/returns/{item.pk}/"))
        assert Disposition.objects.filter(line=line).count() == 1
        assert Rma.objects.get(pk=item.pk).state == "inspected"
    assert_invariants()


def test_a_purchase_order_is_received_once(
    two: Two, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    sku = make_sku("MUG")
    add_stock(sku, east, 1)
    supplier = Supplier.objects.create(code="KILN", name="Kiln", over_receipt_percent=Decimal(100))
    for round_ in range(ROUNDS):
        before = on_hand(sku, east)
        order = purchase_orders.create(
            supplier_id=supplier.pk, warehouse_id=east.pk, actor=SYSTEM,
            lines=[purchase_orders.LineSpec(sku.pk, 10, Decimal(3))],
        )  # fmt: skip
        purchase_orders.approve(order.pk, actor=SYSTEM)
        purchase_orders.send(order.pk, actor=SYSTEM)
        path, page = f"/purchasing/orders/{order.pk}/receive/", f"/purchasing/orders/{order.pk}/"
        form = {f"good-{order.lines.get().pk}": 10, "delivery_note": f"DN{round_}"}
        if round_:
            one_of(two.both(path, form, page), "only a sent order can be received", "may be received")
        else:
            fine(two.twice(path, form, page))
        assert Receipt.objects.filter(order=order).count() == 1
        assert on_hand(sku, east) == before + 10
    assert_invariants()


def test_an_adjustment_is_approved_once(
    two: Two, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    sku, lena = make_sku("MUG", unit_cost=Decimal(100)), make_user("lena", "ops")
    add_stock(sku, east, 50, unit_cost=Decimal(100))
    for _ in range(ROUNDS):
        before = on_hand(sku, east)
        asked = operations.adjust(
            sku_id=sku.pk, warehouse_id=east.pk, quantity=-9, reason="damaged", note="water",
            actor=Actor("user", "lena", lena.pk), key=uuid.uuid4().hex,
        ).request  # fmt: skip
        assert asked is not None
        answers = two.both("/stock/approvals/", {"request": asked.pk, "decision": "approve"})
        one_of(answers, "(approved|refused) already", "decided already")
        assert on_hand(sku, east) == before - 9
        assert AdjustmentRequest.objects.get(pk=asked.pk).state == "approved"
    assert_invariants()


def test_one_approves_while_the_other_refuses(two: Two, east: Warehouse) -> None:
    sku, lena = make_sku("MUG", unit_cost=Decimal(100)), make_user("lena", "ops")
    add_stock(sku, east, 50, unit_cost=Decimal(100))
    asked = operations.adjust(
        sku_id=sku.pk, warehouse_id=east.pk, quantity=-9, reason="damaged", note="water",
        actor=Actor("user", "lena", lena.pk), key="k",
    ).request  # fmt: skip
    assert asked is not None
    forms = [
        (one, {**one.open("/stock/approvals/"), "request": asked.pk, "decision": decision})
        for one, decision in ((two.anna, "approve"), (two.omar, "refuse"))
    ]
    one_of(
        two.race(*[lambda one=one, form=form: one.send("/stock/approvals/", form) for one, form in forms]),
        "(approved|refused) already",
        "decided already",
    )
    state = AdjustmentRequest.objects.get().state
    assert on_hand(sku, east) == (41 if state == "approved" else 50)


def test_a_label_is_given_back_or_leaves(
    two: Two, world: World, carrier: PlayedCarrier, assert_invariants: Callable[[], None]
) -> None:
    for _ in range(ROUNDS):
        shipment = world.packed(1)
        [bought] = labels.buy(shipment.pk, actor=SYSTEM)
        page = f"/shipments/{shipment.pk}/"
        form, other = two.anna.open(page), two.omar.open(page)
        answers = two.race(
            lambda at=page, form={**form, "label": bought.pk}: two.anna.send(f"{at}void/", form),  # type: ignore[misc]
            lambda at=page, form=other: two.omar.send(f"{at}ship/", form),  # type: ignore[misc]
        )
        one_of(answers, "left already", "no label yet", "cannot become")
        shipment.refresh_from_db()
        bought.refresh_from_db()
        assert (shipment.state, bought.state) in (("shipped", "purchased"), ("packed", "void"))
        assert (bought.tracking_number in carrier.voided) == (bought.state == "void")
    assert_invariants()


def test_two_buy_the_label_and_two_hand_over(
    two: Two, world: World, carrier: PlayedCarrier, assert_invariants: Callable[[], None]
) -> None:
    shipment = world.packed(2)
    page = f"/shipments/{shipment.pk}/"
    two.both(f"{page}label/", {}, page)
    assert (carrier.calls, LabelPurchase.objects.filter(state="purchased").count()) == (1, 1)
    two.both(f"{page}ship/", {}, page)
    assert Shipment.objects.get(pk=shipment.pk).state == "shipped"
    assert StockMovement.objects.filter(kind="ship", bucket="on_hand").count() == 1
    assert_invariants()


def test_one_merges_a_sku_while_the_other_adjusts_it(
    two: Two, east: Warehouse, assert_invariants: Callable[[], None]
) -> None:
    target = make_sku("CUP")
    add_stock(target, east, 10)
    for round_ in range(ROUNDS):
        source = make_sku(f"OLD-{round_}")
        add_stock(source, east, 5)
        before = on_hand(target, east)
        merge = two.anna.open(f"/stock/merge/?source={source.code}&target=CUP")
        adjust = two.omar.open("/stock/adjust/")
        merge |= {"source": source.code, "target": "CUP"}
        adjust |= {
            "sku": source.code,
            "warehouse": "EAST",
            "mode": "change",
            "quantity": "3",
            "reason": "found",
        }
        first, second = two.race(
            lambda form=merge: two.anna.send("/stock/merge/", form),  # type: ignore[misc]
            lambda form=adjust: two.omar.send("/stock/adjust/", form),  # type: ignore[misc]
        )
        # the adjustment reached the SKU before, its target behind, or was told why not
        refused = errors(second)
        assert not errors(first) and (not refused or "merged" in refused[0] or "unknown" in refused[0]), (
            refused
        )
        added = 0 if refused else 3
        assert on_hand(target, east) == before + 5 + added
        level = StockLevel.objects.filter(sku=source, warehouse=east).first()
        assert level is None or level.on_hand == 0
        assert Sku.objects.get(pk=source.pk).merged_into_id == target.pk
    assert_invariants()


def test_forms_that_make_something_make_it_once(two: Two, east: Warehouse) -> None:
    """A double click on 'request', 'adjust' and the like; the second answer shows what the first one made."""
    sku = make_sku("MUG")
    make_warehouse("WEST")
    add_stock(sku, east, 20)
    supplier = Supplier.objects.create(code="KILN", name="Kiln")
    SupplierOffer.objects.create(supplier=supplier, sku=sku, price=Decimal(3))
    adjust = {"sku": "MUG", "warehouse": "EAST", "mode": "change", "quantity": "3", "reason": "found"}
    two.twice("/stock/adjust/", adjust)
    assert on_hand(sku, east) == 23
    wanted = {"source": "EAST", "destination": "WEST", "lines": "MUG 4"}
    two.twice("/stock/transfers/", wanted)
    assert Transfer.objects.count() == 1
    order = {"supplier": supplier.code, "warehouse": "EAST", "lines": "MUG 4"}
    two.twice("/purchasing/orders/new/", order)
    assert PurchaseOrder.objects.count() == 1
