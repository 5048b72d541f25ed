"""Processes killed with -9 between any two statements: after a restart each act has happened once, or not at all."""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from fulfillment import labels
from fulfillment.carriers import base
from fulfillment.models import LabelPurchase, Shipment
from fulfillment.threepl import calls
from inventory import bulk, counts, merging, transfers
from inventory.models import CountTask, Sku, StockLevel, Warehouse
from oms.core import http, jobs
from oms.core.actor import SYSTEM, actor_of
from oms.core.clock import now
from returns import inspection, rma
from returns.models import Disposition
from tests.channels.conftest import amazon as amazon
from tests.channels.conftest import sandbox as sandbox
from tests.channels.conftest import sandbox_url as sandbox_url
from tests.channels.conftest import stock as stock
from tests.channels.test_mcf import Amazon
from tests.channels.test_mcf import world as outbound
from tests.factories import add_stock, make_sku, make_user, make_warehouse
from tests.fulfillment.conftest import PlayedCarrier, World
from tests.fulfillment.conftest import carrier as carrier
from tests.fulfillment.conftest import world as world
from tests.threepl.conftest import Partner
from tests.threepl.conftest import partner as partner

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

__all__ = ["outbound"]

WRITES = ("INSERT", "UPDATE", "DELETE", "WITH")
Check = Callable[[], None]


def strike(work: Callable[[], object], at: int) -> bool:
    """Do `work` in a process of its own that is killed before its `at`-th write or commit, or behind that commit.

    False when it ended before it came so far.
    """
    pid = os.fork()
    if not pid:
        _child(work, at)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the work broke before it was killed"
    return False


def _child(work: Callable[[], object], at: int) -> None:
    """Runs to its end or its death; nothing of it comes back into the test."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().upper().startswith(WRITES):
            step()
        return execute(sql, params, many, context)

    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]

    def committed(self: BaseDatabaseWrapper) -> None:
        step()
        commit(self)
        step()

    try:
        connection.connection = None  # the parent's socket stays the parent's
        http.DOOR._clients.clear()
        BaseDatabaseWrapper._commit = committed  # type: ignore[attr-defined]
        connection.execute_wrappers.append(counted)
        work()
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def points(step: int, most: int = 150) -> Iterator[int]:
    yield from range(1, most, step)


def later(minutes: int = 10) -> Any:
    """Leases are over, what waits is due."""
    return time_machine.travel(now() + dt.timedelta(minutes=minutes))


def on_hand(sku: Sku, place: Warehouse) -> int:
    level = StockLevel.objects.filter(sku=sku, warehouse=place).first()
    return level.on_hand if level else 0


def test_transfers_counts_merges_and_bulk_edits(assert_invariants: Check) -> None:
    east, west, sku = make_warehouse("EAST"), make_warehouse("WEST"), make_sku("MUG")
    add_stock(sku, east, 100)
    item = transfers.request_transfer(
        source_id=east.pk, destination_id=west.pk, lines={sku.pk: 10}, actor=SYSTEM
    )
    for act in (
        lambda: transfers.ship_transfer(item.pk, actor=SYSTEM),
        lambda: transfers.receive_transfer(item.pk, {sku.pk: 10}, actor=SYSTEM, key="in"),
    ):
        for at in points(3):
            if not strike(act, at):
                break
        act()  # whoever presses again changes nothing
    assert (on_hand(sku, east), on_hand(sku, west)) == (90, 10)

    task = counts.ask(sku.pk, east.pk, cause=CountTask.Cause.MANUAL, actor=SYSTEM)
    for at in points(3):
        if not strike(lambda: counts.submit(task.pk, 88, actor=SYSTEM), at):
            break
    for at in points(3):
        if not strike(lambda: counts.accept(task.pk, actor=SYSTEM), at):
            break
    task.refresh_from_db()
    assert (task.state, on_hand(sku, east)) == ("done", 88)

    cup = make_sku("CUP")
    for at in points(4):
        if not strike(lambda: merging.merge_skus(sku.pk, cup.pk, actor=SYSTEM), at):
            break
    assert (on_hand(sku, east), on_hand(cup, east), on_hand(cup, west)) == (0, 88, 10)

    skus = [make_sku(f"B-{n}") for n in range(6)]
    boss = make_user("boss")
    job = bulk.start(
        "add", [one.pk for one in skus], east, bulk.checked("add", "4", "found", east), actor=actor_of(boss), key="bulk"
    )  # fmt: skip

    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jobs, "CHUNK", 2)
            assert jobs.Run.rows.__kwdefaults__ is not None
            patch.setitem(jobs.Run.rows.__kwdefaults__, "chunk", 2)
            jobs.run_job(job.pk)

    killed = 0
    for at in points(18):  # five deaths in a row without a row done would end it
        job.refresh_from_db()
        if job.state == "done":
            break
        with later(10 * at):
            killed += strike(work, at)
    job.refresh_from_db()
    assert (job.state, job.position, job.ok) == ("done", 6, 6) and killed >= 2, job.message
    assert [on_hand(one, east) for one in skus] == [4] * 6
    assert job.rows.count() == 6
    assert_invariants()


class Ledger(PlayedCarrier):
    """A carrier that remembers what it sold although its client died: one line of a file per label."""

    path: Path

    def buy(self, request: base.BuyRequest, *, key: str) -> base.BuyOutcome:
        with self.path.open("a") as file:
            file.write(f"{request.reference}\n")
        return self.label(request.reference)

    def label(self, reference: str) -> base.Bought:
        return base.Bought(f"1Z-{reference}", reference, Decimal("6.10"), "USD", {"pdf": b"%PDF-1.4 x"})

    def resolve(self, *, key: str, reference: str) -> base.ResolveOutcome:
        return self.label(reference) if reference in self.sold() else base.NotFoundAtCarrier()

    def void(self, *, tracking_number: str, carrier_ref: str) -> base.Problem | None:
        with self.path.with_suffix(".void").open("a") as file:
            file.write(f"{tracking_number}\n")
        return None

    def sold(self) -> list[str]:
        return self.path.read_text().split() if self.path.exists() else []


def test_a_label_is_paid_once_and_given_back_once(
    world: World,
    carrier: PlayedCarrier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    assert_invariants: Check,
) -> None:
    book = Ledger(rates=carrier.rates)
    book.path = tmp_path / "sold"
    monkeypatch.setattr("tests.fulfillment.conftest._played", book)
    done = 0
    for at in points(3):
        shipment = world.packed(1)
        killed = strike(lambda pk=shipment.pk: labels.buy(pk, actor=SYSTEM), at)  # type: ignore[misc]
        for minutes in (5, 10, 90):
            with later(minutes):
                labels.resolve_due(actor=SYSTEM)
        mine = [one for one in book.sold() if one.startswith(f"{shipment.number}-")]
        bought = LabelPurchase.objects.filter(parcel__shipment=shipment, state="purchased")
        assert len(mine) == bought.count() <= 1
        shipment.refresh_from_db()
        assert shipment.state == ("labelled" if mine else "packed")
        if not killed:
            done += 1
            break
    assert done and len(book.sold()) > 2
    for at in points(2):
        bought_one = LabelPurchase.objects.filter(state="purchased").first()
        if bought_one is None:
            break
        strike(lambda pk=bought_one.pk: labels.void(pk, actor=SYSTEM), at)  # type: ignore[misc]
        with later(5):
            labels.resolve_due(actor=SYSTEM)
        bought_one.refresh_from_db()
        given = bought_one.tracking_number in book.path.with_suffix(".void").read_text() if at > 3 else None
        assert bought_one.state in ("purchased", "void") and given in (None, bought_one.state == "void")
        packed = Shipment.objects.get(parcels=bought_one.parcel_id)
        assert packed.state == ("packed" if bought_one.state == "void" else "labelled")
    assert_invariants()


def test_a_returned_unit_is_put_back_once(world: World, assert_invariants: Check) -> None:
    item = rma.receive_unannounced(
        warehouse_id=world.east.pk, goods=[(world.sku.pk, 3)], actor=SYSTEM, key="box"
    )
    line = item.lines.get()
    verdict = inspection.Verdict(line.pk, 3, "new", "restock")
    for at in points(2):
        if not strike(lambda: inspection.dispose([verdict], actor=SYSTEM, key="form"), at):
            break
    inspection.dispose([verdict], actor=SYSTEM, key="form")
    level = StockLevel.objects.get(sku=world.sku, warehouse=world.east)
    assert (Disposition.objects.count(), level.on_hand, level.quarantine, level.available) == (1, 13, 0, 13)
    assert_invariants()


def test_a_3pl_gets_an_order_once(partner: Partner, assert_invariants: Check) -> None:
    for at in points(3):
        given = partner.planned(1)
        killed = strike(lambda: calls.drain(partner.account.pk), at)
        for minutes in (10, 20, 120):
            with later(minutes):
                partner.due()
        given.refresh_from_db()
        there = [one for one in partner.there() if given.reference in str(one)]
        assert len(there) == 1 and given.state in ("sent", "confirmed", "acknowledged"), (
            at,
            given.state,
            there,
        )
        if not killed or at > 22:
            break
    assert_invariants()


def test_amazon_gets_an_order_of_another_channel_once(outbound: Amazon, assert_invariants: Check) -> None:
    for number, at in enumerate((3, 6, 11, 16)):
        given = outbound.planned(1)
        before = len(outbound.there())
        assert strike(lambda: calls.drain(outbound.partner.pk), at)
        for hour in range(1, 6):  # looked for three times, then sent again; the clock only goes forward
            with later(60 * (hour + 6 * number)):
                outbound.due()
        given.refresh_from_db()
        assert (len(outbound.there()) - before, given.state) == (1, "confirmed"), at
    assert_invariants()
