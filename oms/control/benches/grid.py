"""The stock grid at 100,000 SKUs in 6 warehouses: every view, filter, search and page as the browser asks for it."""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from inventory.models import Product, Reservation, Sku, SkuAlias, StockLevel, Warehouse
from inventory.views import VIEWS
from oms.control.benches import world
from oms.control.benches.report import Report
from oms.core.inserts import insert_columns
from oms.core.models import Membership, User

WORDS = (
    "anchor", "basalt", "cedar", "dune", "ember", "fjord", "granite", "harbour", "indigo", "juniper", "kelp", "linen",
    "meadow", "nutmeg", "olive", "pebble", "quartz", "rowan", "sable", "thistle", "umber", "velvet", "willow", "zephyr",
)  # fmt: skip
THINGS = (
    "mug",
    "bowl",
    "tote",
    "lamp",
    "vase",
    "plate",
    "scarf",
    "candle",
    "tray",
    "pillow",
    "print",
    "basket",
)
#: found often, seldom, never; in codes, titles and barcodes; two letters are a prefix
SEARCHES = ("mug", "velvet", "zep", "thistle bas", "77123", "G-0451", "qqqzzz", "4006000077123", "ce", "gr")


def environment(options: dict[str, Any]) -> dict[str, str]:
    """What the child process needs beyond its database: a browser that logs in without a second factor."""
    return {"OMS_REQUIRE_2FA": "0"}


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 9: time on the server per page, the whole page and the parts that htmx asks for."""
    quick = bool(options["quick"])
    skus, rounds = (500, 1) if quick else (100_000, 3)
    say("data")
    places = world.warehouses(6)
    Warehouse.objects.filter(pk=places[-1].pk).update(kind=Warehouse.Kind.FBA)
    fill(skus, [place.pk for place in places])
    owner = User.objects.create_user("bench", password=None)
    Membership.objects.create(user=owner, role="owner")
    client = browser(owner)
    report.size = {"skus": skus, "warehouses": len(places), "levels": skus * len(places), "rounds": rounds}
    client.get("/stock/", secure=True)  # nobody pays for the first use
    taken: dict[str, list[float]] = {}
    asked: dict[str, list[float]] = {}
    own: list[float] = []
    statements = 0
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name, path, fragment in pages(client):
            with CaptureQueriesContext(connection) as context:
                began, cpu = time.perf_counter(), time.process_time()
                answer = client.get(path, headers={"HX-Request": "true"} if fragment else {}, secure=True)
                seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            if answer.status_code != 200:
                raise RuntimeError(f"{path} answered {answer.status_code}")
            taken.setdefault(name, []).append(seconds * 1000)
            asked.setdefault(name, []).append(
                sum(float(query["time"]) for query in context.captured_queries) * 1000
            )
            own.append(cpu * 1000)
            statements = max(statements, len(context.captured_queries))
    every = [one for found in taken.values() for one in found]
    report.figures = {f"{name}_ms": median(found) for name, found in taken.items()}
    report.figures |= {f"{name}_sql_ms": median(found) for name, found in asked.items()}
    report.figures["sql_p95_ms"] = p95([one for found in asked.values() for one in found])
    report.figures["client_cpu_p95_ms"] = p95(own)
    report.figures["slowest_ms"] = max(every)
    report.figures["most_statements"] = statements
    report.at_most(9, "stock grid, page on the server, p95", p95(every), 100, 50, "ms")
    report.equal("SKUs", Sku.objects.count(), skus)
    report.notes.append(
        "Time from the request to the last byte of the answer inside the process: middleware, session, rights, "
        "queries and template, with statements recorded. Figures are medians of the rounds, p95 is over all requests."
    )


def browser(user: User) -> Client:
    """A logged-in client that comes over https, as the settings of a server ask for."""
    call_command("collectstatic", interactive=False, verbosity=0)
    client = Client(headers={"Host": "127.0.0.1"})
    client.force_login(user)
    return client


def p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def pages(client: Client) -> Iterator[tuple[str, str, bool]]:
    """Name, address and whether only the part is asked for: each view whole, by warehouse, searched, paged."""
    for view, label in VIEWS:
        yield f"view {label.lower()}", f"/stock/?view={view}", False
        yield f"view {label.lower()}, one warehouse", f"/stock/?view={view}&warehouse=WH2", True
        yield f"view {label.lower()}, searched", f"/stock/?view={view}&q=mug", True
    for text in SEARCHES:
        yield f"search {text}", f"/stock/?q={text}", True
    cursor = ""
    for number in range(2, 6):
        answer = client.get(f"/stock/?cursor={cursor}", headers={"HX-Request": "true"}, secure=True)
        found = re.search(r'cursor=([^"&]+)', answer.content.decode())
        if found is None:
            return
        cursor = found[1]
        yield f"page {number}", f"/stock/?cursor={cursor}", True


def fill(count: int, places: list[int]) -> None:
    """SKUs with titles, barcodes and levels: one in ten sold out, some promised, few unfit or on their way."""
    dice = random.Random(5)
    for start in range(0, count, 10_000):
        numbers = range(start, min(count, start + 10_000))
        titles = [f"{dice.choice(WORDS)} {dice.choice(THINGS)} {dice.choice(WORDS)}".title() for _ in numbers]
        products = Product.objects.bulk_create(Product(title=title) for title in titles)
        made = Sku.objects.bulk_create(
            Sku(product=product, code=f"{title[:1]}-{number:06}", title=title)
            for product, title, number in zip(products, titles, numbers, strict=True)
        )
        SkuAlias.objects.bulk_create(
            SkuAlias(sku=sku, kind=SkuAlias.Kind.GTIN, value=f"4006{number:09}")
            for sku, number in zip(made, numbers, strict=True)
        )
        rows = [(sku.pk, place) for sku in made for place in places]
        empty = {sku.pk for sku in made if dice.random() < 0.1}
        on_hand = [0 if sku in empty else dice.randrange(10, 400) for sku, _ in rows]
        reserved = [3 if units and dice.random() < 0.03 else 0 for units in on_hand]
        promised = [pair for pair, units in zip(rows, reserved, strict=True) if units]
        insert_columns(
            StockLevel,
            len(rows),
            {
                "sku_id": [sku for sku, _ in rows],
                "warehouse_id": [place for _, place in rows],
                "on_hand": on_hand,
                "reserved": reserved,
                "damaged": [units and (2 if dice.random() < 0.005 else 0) for units in on_hand],
                "in_transit": [4 if dice.random() < 0.002 else 0 for _ in rows],
            },
        )
        insert_columns(
            Reservation,
            len(promised),
            {
                "uid": [uuid.uuid4() for _ in promised],
                "sku_id": [sku for sku, _ in promised],
                "warehouse_id": [place for _, place in promised],
                "quantity": 3,
                "reference": "bench",
            },
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")
