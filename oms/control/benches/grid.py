"""The stock grid at 100,000 SKUs in 6 warehouses: every view, filter, search and page as the browser asks for it."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from django.test import Client

from inventory.models import Product, Reservation, Sku, SkuAlias, StockLevel, Warehouse
from inventory.views import VIEWS
from oms.control.benches import world
from oms.control.benches.pages import NOTE, Pages, analyze, ask, browser, environment, owner, p95
from oms.control.benches.report import Report
from oms.core.inserts import insert_columns

__all__ = ["environment", "run"]

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


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 9: time on the server per page, the whole page and the parts that htmx asks for."""
    quick = bool(options["quick"])
    skus, rounds = (500, 1) if quick else (100_000, 3)
    say("data")
    places = world.warehouses(6)
    Warehouse.objects.filter(pk=places[-1].pk).update(kind=Warehouse.Kind.FBA)
    fill(skus, [place.pk for place in places])
    client = browser(owner())
    report.size = {"skus": skus, "warehouses": len(places), "levels": skus * len(places), "rounds": rounds}
    ask(client, "/stock/")  # nobody pays for the first use
    found = Pages()
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for name, path, fragment in pages(client):
            found.ask(client, name, path, fragment=fragment)
    found.tell(report)
    report.at_most(9, "stock grid, page on the server, p95", p95(found.all("ms")), 100, 50, "ms")
    report.equal("SKUs", Sku.objects.count(), skus)
    report.notes.append(NOTE)


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
    analyze()
