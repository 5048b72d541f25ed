"""The order queue at 1,000,000 orders, and at a tenth of them: every view, filter, sort, search and page as the browser
asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.test import Client

from inventory.models import Reservation, Sku
from oms.control.benches import world
from oms.control.benches.pages import NOTE, Pages, analyze, ask, browser, environment, owner, p95
from oms.control.benches.report import Report
from oms.control.benches.rows import at, insert, quiet, uuid
from oms.core.db import on_postgres
from oms.core.paging import keyset_page
from oms.orders.models import Allocation, Order, OrderLine
from oms.orders.selectors import VIEWS

__all__ = ["environment", "run"]

#: seconds between two orders: a million in a year
EVERY = 31
#: orders with work left, the newest: three days of such a year
LIVE = 8_000
FIRST_NAMES = (
    "Ana",
    "Boris",
    "Chloe",
    "Dmitri",
    "Elena",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Liam",
)
LAST_NAMES = (
    "Ruiz", "Cole", "Weber", "Okafor", "Lindqvist", "Tanaka", "Moreau", "Novak", "Silva", "Haddad", "Brandt",
    "Kowalski", "Rossi", "Byrne", "Dahl", "Ferrari", "Nguyen", "Petrov", "Schulz", "Zimmermann",
)  # fmt: skip
#: one order in so many has this name
RARE, RARE_NAME = 50_000, "Xanthe Quillfeather"


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 8."""
    quick = bool(options["quick"])
    orders, rounds = (2_000, 1) if quick else (options["orders"], 5)
    live = orders // 20 if quick else min(LIVE, orders // 20)
    places = world.warehouses(6)
    shops = [world.channel(f"shop{number}", places) for number in range(1, 6)]
    goods = world.skus(50 if quick else 1_000, 1, places[:1])
    client = browser(owner())
    few, many = Pages(), Pages()
    for total, pages in ((orders // 10, few), (orders, many)):
        done = Order.objects.count()
        say(f"{total:,} orders")
        _seed(total - done, done, orders, live, [one.pk for one in shops], [one.pk for one in goods],
              [one.pk for one in places])  # fmt: skip
        analyze()
        ask(client, "/orders/")  # nobody pays for the first use
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for name, path, fragment in _pages(client, goods, orders):
                cache.clear()  # counts are kept for 30 seconds: here everybody counts
                pages.ask(client, name, path, fragment=fragment)
    report.size = {"orders": orders, "with_work_left": live, "lines": OrderLine.objects.count(),
                   "channels": len(shops), "warehouses": len(places), "skus": len(goods), "rounds": rounds}  # fmt: skip
    many.tell(report)
    ratio = median(many.all("ms")) / median(few.all("ms"))
    report.figures |= {
        "page_p95_at_a_tenth_ms": p95(few.all("ms")),
        "page_processor_p95_at_a_tenth_ms": p95(few.all("cpu_ms")),
        "sql_of_a_page_p95_at_a_tenth_ms": p95(few.all("sql_ms")),
    }
    report.at_most(8, "slowest statement of a page, p95", p95(many.all("slowest_ms")), 10, 5, "ms")
    report.at_most(8, "page on the server, p95", p95(many.all("ms")), 100, 50, "ms")
    report.at_most(8, "statements of a page, most", max(many.all("statements")), 10, 10)
    report.at_most(8, "median page to that at a tenth of the orders", ratio, 1.5, 1.1, "×")
    report.equal("orders", Order.objects.count(), orders)
    report.notes.append(NOTE)


def _pages(client: Client, goods: Sequence[Sku], orders: int) -> Iterator[tuple[str, str, bool]]:
    """Name, address and whether only the part is asked for."""
    newest = Order.objects.order_by("-pk").values_list("pk", flat=True)[0]
    for view, label in ((view.key, view.label.lower()) for view in VIEWS.values()):
        yield f"view {label}", f"/orders/?view={view}", False
        yield f"view {label}, one channel", f"/orders/?view={view}&channel=shop2", True
        yield f"view {label}, searched", f"/orders/?view={view}&q=ruiz", True
    for name, query in (
        ("one channel", "channel=shop3"), ("one warehouse", "warehouse=WH4"), ("shipped", "state=shipped"),
        ("cancelled in one channel", "state=cancelled&channel=shop1"), ("due today", "due=today"),
        ("no date", "due=none"), ("tag often", "tag=gift"), ("tag seldom", "tag=vip"), ("tag never", "tag=nobody"),
        ("late ones of a health", "health=late"), ("oldest first", "sort=placed"), ("by deadline", "sort=ship_by"),
        ("shipped by deadline", "state=delivered&sort=ship_by"),
        ("one warehouse and channel", "warehouse=WH2&channel=shop4"),
    ):  # fmt: skip
        yield f"filter {name}", f"/orders/?{query}", True
    for text in (
        "ruiz",
        "quillf",
        "xan",
        "ana",
        "qqqzzz",
        "ru",
        "4821",
        f"%23{newest}",
        f"BE-{newest}",
        goods[7].code,
    ):
        yield f"search {text.replace('%23', '#').replace(str(newest), '…')}", f"/orders/?q={text}", True
    yield "new ones since", f"/orders/?since={newest}", True
    for share in (1, 5, 9):
        middle = Order.objects.filter(pk__lte=orders - orders * share // 10).order_by("-pk")
        cursor = keyset_page(middle, order=("-placed_at", "-id")).next_cursor
        yield f"page after {share} of 10", f"/orders/?cursor={cursor}", True


def _seed(
    count: int, done: int, orders: int, live: int, shops: list[int], goods: list[int], places: list[int]
) -> None:
    """`count` orders older than the `done` newest ones. The n-th newest has the id `orders` + 1 - n."""
    k = f"(n + {done})"
    key = f"({orders} + 1 - {k})"
    alive = f"{k} <= {live}"
    state = (
        f"CASE WHEN {alive} THEN CASE WHEN {k} % 10 = 0 THEN 'pending' WHEN {k} % 10 < 4 THEN 'open'"
        f" WHEN {k} % 10 < 9 THEN 'routed' ELSE 'part_shipped' END WHEN {k} % 33 = 0 THEN 'cancelled'"
        f" WHEN {k} <= {orders // 10} THEN 'shipped' ELSE 'delivered' END"
    )
    first, last = (_one_of(names, f"{k} / {step}") for names, step in ((FIRST_NAMES, 20), (LAST_NAMES, 1)))
    held, short, unmapped = (f"CASE WHEN {alive} AND {k} % {n} = 0 THEN 1 ELSE 0 END" for n in (12, 14, 50))
    shipped = f"CASE WHEN {alive} OR {k} % 33 = 0 THEN NULL ELSE {at(f'{k} * {EVERY} - 60000')} END"
    vip, gift, none = (
        f"'{tags}'::jsonb" if on_postgres() else f"'{tags}'" for tags in ('["vip"]', '["gift"]', "[]")
    )
    with transaction.atomic(), quiet():
        insert(
            Order, count,
            id=key, channel_id=f"{shops[0]} + {k} % {len(shops)}", external_id=f"'B' || {key}",
            external_number=f"'#' || {key}", state=state, currency="'USD'", placed_at=at(f"{k} * {EVERY}"),
            imported_at=at(f"{k} * {EVERY} - 3"), channel_updated_at=at(f"{k} * {EVERY}"),
            ship_by=f"CASE WHEN {k} % 200 = 1 THEN NULL ELSE {at(f'{k} * {EVERY} - 86400')} END", shipped_at=shipped,
            total="20 + n % 80", ship_country="'US'",
            ship_name=f"CASE WHEN {k} % {RARE} = 7 THEN '{RARE_NAME}' ELSE {first} || ' ' || {last} END",
            tags=f"CASE WHEN {k} % 2000 = 3 THEN {vip} WHEN {k} % 40 = 3 THEN {gift} ELSE {none} END",
            fulfilled_by=f"CASE WHEN {k} % 20 = 0 THEN 'channel' ELSE 'us' END", holds_open=held,
            short_units=short, unmapped_lines=unmapped,
        )  # fmt: skip
        for number, rows in ((1, count), (2, count // 3)):
            nth = k if number == 1 else f"(n * 3 + {done})"
            gone = f"CASE WHEN {nth} <= {live} THEN 0 ELSE 1 END"
            order = f"({orders} + 1 - {nth})"
            line = f"({order} * 2 + {number - 1})"
            sku = f"{goods[0]} + {nth} * 7 % {len(goods)}"
            insert(
                OrderLine, rows,
                id=line, order_id=order, external_id=f"'{number}'", sku_id=sku, quantity="1",
                reserved=f"1 - ({gone})", shipped=gone, unit_price="20", title="'Something'",
            )  # fmt: skip
            insert(
                Reservation, rows,
                id=line, uid=uuid(), sku_id=sku, warehouse_id=f"{places[0]} + {nth} % {len(places)}",
                quantity=f"1 - ({gone})", consumed=gone, reference="'bench'",
                state=f"CASE WHEN {nth} <= {live} THEN 'open' ELSE 'consumed' END", created_at=at(f"{nth} * {EVERY}"),
            )  # fmt: skip
            insert(Allocation, rows, id=line, line_id=line, reservation_id=line, per_unit="1")


def _one_of(names: Sequence[str], number: str) -> str:
    """SQL for the name at a number modulo their count."""
    cases = " ".join(f"WHEN {place} THEN '{name}'" for place, name in enumerate(names))
    return f"CASE ({number}) % {len(names)} {cases} END"
