"""The REST interface on the server: a page of 100 orders, and one order entered with an idempotency key."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from django.test import Client

from oms.control.benches import world
from oms.control.benches.pages import analyze
from oms.control.benches.report import Report
from oms.core import tokens
from oms.core.memory import settle
from oms.core.models import Membership, User
from oms.orders import intake
from oms.orders.models import Order

CONTACT = {"name": "Ana Ruiz", "address1": "1 Main St", "city": "Boston", "region": "MA", "postal_code": "02108",
           "country": "US"}  # fmt: skip


def environment(options: dict[str, Any]) -> dict[str, str]:
    """What the child process needs beyond its database."""
    return {"OMS_API_RATE": "1000000/min"}


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Target 18, in milliseconds through every middleware; the network to the caller is not in it."""
    stored, asked = (200, 2) if options["quick"] else (20_000, 200)
    places = world.warehouses(2)
    goods = world.skus(200, 1_000_000, places)
    shop = world.channel("bench", places)
    report.size = {"orders": stored, "lines_per_order": 2, "requests_of_each_kind": asked, "skus": len(goods)}
    say(f"entering {stored} orders")
    for start in range(0, stored, 100):
        drafts = [
            world.order(f"S{number}", [(goods[number % 200], 1), (goods[(number + 7) % 200], 2)])
            for number in range(start, start + 100)
        ]
        intake.take(drafts, channel=shop, actor=world.ACTOR, source="bench")
    user = User.objects.create(username="bench")
    Membership.objects.create(user=user, role="owner")
    scopes = ["orders:read", "orders:write"]
    _, text = tokens.issue(user, "bench", scopes, actor=world.ACTOR)
    client = Client(SERVER_NAME="127.0.0.1", HTTP_AUTHORIZATION=f"Bearer {text}")

    work: list[float] = []  # processor time of this process, for machines that do other things as well

    def timed(ask: Callable[[], Any], status: int) -> tuple[float, Any]:
        began, worked = time.perf_counter(), time.process_time()
        answer = ask()
        took = (time.perf_counter() - began) * 1000
        work.append((time.process_time() - worked) * 1000)
        if answer.status_code != status:
            raise RuntimeError(f"{answer.status_code}: {answer.content[:300]!r}")
        return took, answer.json()

    def listed(address: str) -> tuple[float, Any]:
        return timed(lambda: client.get(address), 200)

    def entered(number: int) -> tuple[float, Any]:
        body = {
            "channel": "bench", "external_id": f"A{number}", "contact": CONTACT,
            "lines": [{"sku": goods[(number + shift) % 200].code, "quantity": 1, "unit_price": "12.50"}
                      for shift in (0, 7)],
        }  # fmt: skip
        key = f"bench-{number}"
        return timed(
            lambda: client.post(
                "/api/v1/orders/", body, content_type="application/json", headers={"Idempotency-Key": key}
            ),
            201,
        )

    for number in range(5):  # warm
        listed("/api/v1/orders/?limit=100")
        entered(-1 - number)
    analyze()  # autovacuum does it within a minute; the bench does not wait for it
    settle()  # as the server does when it begins
    say(f"asking {asked} times for 100 orders, page after page")
    lists, address, rows = [], "/api/v1/orders/?limit=100", 0
    for _ in range(asked):
        took, page = listed(address)
        lists.append(took)
        rows += len(page["results"])
        address = (
            page["next"].replace("http://127.0.0.1", "") if page["next"] else "/api/v1/orders/?limit=100"
        )
    say(f"entering {asked} orders")
    list_work = work[-asked:]
    creates = [entered(number)[0] for number in range(asked)]
    create_work = work[-asked:]
    replays = [entered(number)[0] for number in range(asked)]
    report.figures = {
        "list_100_orders_p50_ms": round(median(lists), 1),
        "list_100_orders_p95_ms": round(p95(lists), 1),
        "list_100_orders_processor_p50_ms": round(median(list_work), 1),
        "list_100_orders_processor_p95_ms": round(p95(list_work), 1),
        "create_order_p50_ms": round(median(creates), 1),
        "create_order_p95_ms": round(p95(creates), 1),
        "create_order_processor_p50_ms": round(median(create_work), 1),
        "create_order_processor_p95_ms": round(p95(create_work), 1),
        "replayed_create_p50_ms": round(median(replays), 1),
        "replayed_create_p95_ms": round(p95(replays), 1),
    }
    report.at_most(18, "list 100 orders, p95", p95(lists), 60, 30, "ms")
    report.at_most(18, "create one order with idempotency key, p95", p95(creates), 40, 20, "ms")
    report.equal("rows of all pages", rows, asked * 100)
    found = Order.objects.filter(channel=shop).count()
    report.equal("orders, though each key was sent twice", found, stored + asked + 5)


def p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95) - 1]
