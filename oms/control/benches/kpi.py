"""The report over a year of orders: how long the roll-ups take to count, and the page to answer from them."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction
from django.test import Client

from channels.models import ChannelAccount, Listing, StockPush
from fulfillment.models import Shipment
from inventory import kpis as stock
from inventory.models import StockDay, StockLevel, StockMovement
from oms.control.benches import world
from oms.control.benches.pages import browser, environment, owner
from oms.control.benches.report import Report
from oms.control.benches.rows import at, insert, quiet, text, uuid
from oms.control.kpis import rollup
from oms.control.models import KpiClose, KpiDay
from oms.core.clock import business_day
from oms.core.figures import Window, percentile, total
from oms.orders.models import Order, OrderLine
from returns.models import ReturnReason, ReturnReceipt, Rma, RmaLine

__all__ = ["environment", "run"]

YEAR = 364
#: days whose roll-ups are counted from the rows; a whole year takes minutes and says no more
COUNTED = 14
STOCK = 1_000_000
#: seconds between two business events that lie a year apart, as SQL: `n` is the number of the row
_AGO = "({days} - (n - 1) % {days}) * 86400 - (n * 37) % 40000"


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 17."""
    quick = bool(options["quick"])
    yearly, rounds = (10_000, 2) if quick else (options["orders"], 20)
    days = 20 if quick else COUNTED
    orders = yearly * days // YEAR
    say(f"{orders:,} orders of {days} days")
    _seed(orders, days, report)
    report.size |= {"orders_a_year": yearly}
    today = business_day()
    window = Window(today - (YEAR - 1) * stock.ONE, today)
    counted = Window(today - (days - 1) * stock.ONE, today)
    began = time.perf_counter()
    stock.close_days(counted.first, today - stock.ONE)
    report.figures["close_stock_days_s"] = time.perf_counter() - began
    for name in rollup.SOURCES:
        say(f"counting {name}")
        began = time.perf_counter()
        last = today - stock.ONE if rollup.SOURCES[name].whole_days else today
        rollup.count(name, counted.first, last)
        report.figures[f"count_{counted.days}_days_{name}_s"] = time.perf_counter() - began
    report.figures["orders_in_those_days"] = _shipped(counted)
    _repeat(window.first, counted)
    report.notes.append(
        f"The rows of the last {days} days are stored and were counted, as many a day as in such a year. Every day "
        "before has the tallies of one of them: the page reads what it would read after a whole year."
    )
    began = time.perf_counter()
    rollup.refresh(older=0)
    report.figures["refresh_every_10_minutes_s"] = time.perf_counter() - began
    report.size |= {"stock_days": StockDay.objects.count(), "rolled_up_rows": KpiDay.objects.count()}
    _analyse()
    say("asking")
    client = browser(owner())
    year = f"from={window.first}&to={window.last}"
    pages = {
        "year": f"/reports/?{year}",
        "year_one_channel": f"/reports/?{year}&channel=shop1",
        "year_one_warehouse": f"/reports/?{year}&warehouse=WH1",
        "30_days": "/reports/",
        "rows_of_a_year": f"/reports/cycle/shipped/?{year}",
    }
    slowest = 0.0
    for name, url in pages.items():
        took = _ask(client, url, rounds)
        report.figures |= {
            f"page_{name}_p50_ms": percentile(took, 0.5),
            f"page_{name}_p95_ms": percentile(took, 0.95),
        }
        if name.startswith("year"):
            slowest = max(slowest, percentile(took, 0.95) or 0)
    report.at_most(17, "KPI page over a year, p95 of the slowest filter", slowest, 300, 100, "ms")
    for name in rollup.SOURCES:
        part = Window(window.last - 9 * stock.ONE, window.last - 8 * stock.ONE)
        rolled = total(rollup.read(name, part).values()).as_json()
        direct = total(rollup.direct(name, part).values()).as_json()
        report.equal(f"{name}: roll-ups equal the direct count of two days", rolled == direct, True)
    shipped = sum(tally.whole("orders") for tally in rollup.read("accuracy", counted).values())
    report.equal("orders in the counted roll-ups", shipped, _shipped(counted))


def _shipped(window: Window) -> int:
    return Order.objects.filter(shipped_at__gte=window.start, shipped_at__lt=window.end).count()


def _repeat(first: dt.date, counted: Window) -> None:
    """Give the days from `first` up to those that were counted the tallies of later days, week by week."""
    shift = counted.days // 7 * 7 - 7
    day = counted.first - stock.ONE
    while day >= first:
        later = day + shift * stock.ONE
        rows = list(KpiDay.objects.filter(grain=KpiDay.Grain.DAY, day=later))
        closes = list(KpiClose.objects.filter(day=later))
        for row in rows:
            row.pk, row.day = None, day
        for close in closes:
            close.pk, close.day = None, day
        KpiDay.objects.bulk_create(rows)
        KpiClose.objects.bulk_create(closes)
        day -= stock.ONE
    for name in rollup.SOURCES:
        for month in rollup.whole_months(Window(first.replace(day=1), rollup.next_month(counted.first))):
            rollup.sum_month(name, month)


def _ask(client: Client, url: str, rounds: int) -> list[float]:
    """Milliseconds on the server, ascending; the first answer, which nobody waits for twice, is left out."""
    client.get(url, secure=True)
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        answer = client.get(url, secure=True)
        took.append((time.perf_counter() - began) * 1000)
        if answer.status_code != 200:
            raise RuntimeError(f"{url} answered {answer.status_code}")
    return sorted(took)


def _seed(orders: int, days: int, report: Report) -> None:
    """A year of orders written set by set inside the database: the report reads them, nothing else is measured."""
    skus = 20 if orders < 10_000 else 100
    places = world.warehouses(3)
    goods = world.skus(skus, 1, places)
    shops = [world.channel(f"shop{number}", places) for number in range(1, 6)]
    accounts = [
        ChannelAccount.objects.create(sales_channel=shop, connector="shopify", state="connected")
        for shop in shops
    ]
    listings = [Listing.objects.create(account=one, external_id="1", sku=goods[0]) for one in accounts]
    reason = ReturnReason.objects.create(code="changed_mind", name="Changed mind")
    pushes = orders // 2
    report.size = {
        "orders": orders, "days": days, "lines": orders + orders // 3, "shipments": orders, "skus": skus,
        "warehouses": 3, "channels": 5, "pushes": pushes, "returns": orders // 20,
    }  # fmt: skip
    first_shop, first_sku, first_place = shops[0].pk, goods[0].pk, places[0].pk
    ago = _AGO.format(days=days)
    took = "7200 + (n * 613) % 172800"  # seconds from order to parcel
    with transaction.atomic(), quiet():
        insert(
            Order, orders,
            id="n", channel_id=f"{first_shop} + n % 5", external_id=text("n"), state="'shipped'", currency="'USD'",
            placed_at=at(f"({ago}) + ({took})"), imported_at=at(f"({ago}) + ({took}) - 5"),
            channel_updated_at=at(ago), shipped_at=at(ago), ship_by=at(f"({ago}) - 30000"), total="20",
        )  # fmt: skip
        insert(
            OrderLine, orders,
            id="n", order_id="n", external_id="'1'", sku_id=f"{first_sku} + n % {skus}", quantity="1 + n % 2",
            shipped="1 + n % 2", short_at_entry="CASE WHEN n % 70 = 0 THEN 1 ELSE 0 END", unit_price="20",
        )  # fmt: skip
        insert(
            OrderLine, orders // 3,
            id=f"{orders} + n", order_id="n * 3", external_id="'2'", sku_id=f"{first_sku} + n % {skus}",
            quantity="1", shipped="1", unit_price="12.50",
        )  # fmt: skip
        insert(
            Shipment, orders,
            id="n", order_id="n", warehouse_id=f"{first_place} + n % 3", state="'shipped'",
            created_at=at(f"({ago}) + ({took}) - 60"), picked_at=at(f"({ago}) + 3000"),
            packed_at=at(f"({ago}) + 1800"), shipped_at=at(ago),
            wrong_scans="CASE WHEN n % 40 = 0 THEN 1 ELSE 0 END",
        )  # fmt: skip
        back = f"({_AGO.replace('n', '(n * 20)').format(days=days)}) - 900000"
        insert(Rma, orders // 20, id="n", order_id="n * 20", warehouse_id=str(first_place), state="'closed'",
                requested_at=at(back), received_at=at(back))  # fmt: skip
        insert(RmaLine, orders // 20, id="n", rma_id="n", order_line_id="n * 20",
                sku_id=f"{first_sku} + (n * 20) % {skus}", quantity="1", received="1", disposed="1",
                reason_id=str(reason.pk))  # fmt: skip
        insert(
            ReturnReceipt,
            orders // 20,
            id="n",
            line_id="n",
            quantity="1",
            key=text("n"),
            received_at=at(back),
        )
        late = "100 + (n * 7717) % 4000"
        insert(
            StockPush, pushes,
            id="n", listing_id=f"{listings[0].pk} + n % 5", version="n", quantity="1", state="'acked'",
            changed_at=at(ago), sent_at=at(ago), answered_at=at(ago), latency_ms=late, batch=uuid(),
        )  # fmt: skip
        levels = skus * 3
        place = "(n - 1) % 3"
        sku = f"((n - 1) / 3) % {skus}"
        day = f"(n - 1) / {levels}"
        moved = f"({days} - {day}) * 86400 - 40000"
        insert(
            StockMovement, levels * days,
            id=f"{StockMovement.objects.count()} + n", sku_id=f"{first_sku} + {sku}",
            warehouse_id=f"{first_place} + {place}", bucket="'on_hand'", quantity="-2",
            balance=f"{STOCK} - 2 * ({day} + 1)",
            kind="'ship'", reference="'year'", unit_cost="4", average_cost="4", key=text("n"),
            created_at=at(moved), occurred_at=at(moved),
        )  # fmt: skip
    _analyse()
    assert StockLevel.objects.count() == levels  # the year hangs on levels that exist


def _analyse() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
