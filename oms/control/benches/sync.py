"""Stock sync over real sockets: a sandbox plays the stores, and the product's own processes do the work.

First single sales in a quiet shop: a buyer pays in one store, its webhook comes in, and the other stores show the new
figure. Then many sales at a fixed rate, entered through order entry, until every store shows the truth again.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from channels import accounts, kpis, quantities
from channels.connectors.base import get_connector
from channels.models import ChannelAccount, InboxMessage, Listing, StockPush
from channels.sandbox.client import SandboxClient
from fulfillment.models import RoutingQueue
from inventory.models import Sku, StockMovement, Warehouse
from oms.control.benches import cpu, world
from oms.control.benches.report import Report
from oms.core import beat
from oms.core.clock import now
from oms.core.db import on_postgres
from oms.core.figures import percentile
from oms.core.models import OutboxEvent
from oms.orders import intake
from oms.orders.models import Order, SalesChannel

UNITS = 5_000
TICK_SECONDS = 0.05
#: this share of the sales is of ten SKUs
POPULAR = 0.5
SETTLE_SECONDS = 120.0


def environment(options: dict[str, Any]) -> dict[str, str]:
    """Free ports for the sandbox and the web process, and the hosts that the sandbox plays."""
    sandbox, web = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    hosts = [f"{_store(number)}.myshopify.com" for number in range(options["channels"])]
    return {
        "OMS_BASE_URL": web,
        "OMS_HOST_MAP": json.dumps({host: f"{sandbox}/{host}" for host in hosts}),
        "PYTHONUNBUFFERED": "1",
    }


@dataclass(frozen=True, slots=True)
class Shown:
    """A listing's part of the measurement: when it was told which figure."""

    at: list[dt.datetime]
    lowest: list[int]  # the lowest figure acknowledged until then, negated so that it rises


def acknowledged(shown: Shown, figure: int) -> dt.datetime | None:
    """When the channel first took a figure that includes the change to `figure` (pure).

    While goods are only sold, figures only fall: a lower one includes every change before it.
    """
    index = bisect_left(shown.lowest, -figure)
    return shown.at[index] if index < len(shown.at) else None


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Targets 6 and 7: a buyer's order in one store until all others show it, a fixed rate, and bursts."""
    quick = bool(options["quick"])
    stores, sku_count = options["channels"], min(options["skus"], 50) if quick else options["skus"]
    seconds, singles = (4, 5) if quick else (options["seconds"], 20)
    places = world.warehouses(1)
    goods = world.skus(sku_count, UNITS, places)
    till = world.channel("till", places)
    report.size = {
        "channels": stores, "skus": sku_count, "listings": stores * sku_count, "sales_per_s": options["rate"],
        "seconds": seconds, "answer_time_ms": options["latency_ms"], "single_sales": singles,
    }  # fmt: skip
    sandbox = "{0.scheme}://{0.netloc}".format(urlsplit(next(iter(settings.HOST_MAP.values()))))
    with contextlib.ExitStack() as stack:
        running = {"load and measuring": os.getpid()}
        running["sandbox"] = stack.enter_context(
            process("sandbox", "--port", str(urlsplit(sandbox).port), "--scenario", "empty")
        )
        client = stack.enter_context(SandboxClient(sandbox))
        client.wait_ready(60)
        running["web"] = stack.enter_context(
            process("serve", "--port", str(urlsplit(settings.BASE_URL).port))
        )
        running["worker"] = stack.enter_context(process("worker"))
        say("stores")
        live = [open_store(client, number, goods, places[0]) for number in range(stores)]
        running["dispatcher"] = stack.enter_context(process("dispatch"))
        wait("the web process", 60, lambda: answers(f"{settings.BASE_URL}/healthz"))
        wait("the dispatcher", 60, lambda: beat.age(beat.DISPATCHER) is not None)
        wait("the worker", 60, lambda: beat.age(beat.WORKER) is not None)
        settle()
        for account in live:
            client.faults(account.config["shop"].split(".")[0], latency_ms=options["latency_ms"])
        say("single sales")
        _single_sales(report, client, live, goods, singles)
        say(f"{options['rate']} sales per second")
        settle()
        _many_sales(report, client, till, live, goods, options["rate"], seconds, running)
        report.equal("listings whose store shows another figure than computed", differences(client, live), [])
        burst = 100 if quick else options["burst"]
        say(f"{burst:,} sales at once")
        _burst(report, client, till, live, goods[:1], "hot", burst)
        _burst(report, client, till, live, goods, "spread", burst)
    report.equal("outbox rows left", OutboxEvent.objects.filter(topic="stock.changed").count(), 0)
    report.equal(
        "messages that gave up", InboxMessage.objects.filter(state=InboxMessage.State.DEAD).count(), 0
    )
    report.check_invariants()


# --- measuring -------------------------------------------------------------------------------------


def _single_sales(
    report: Report, client: SandboxClient, live: Sequence[ChannelAccount], goods: Sequence[Sku], count: int
) -> None:
    """From the buyer's click in store 1 until all other stores have taken the new figure, one sale at a time."""
    took: list[int] = []
    stages: dict[str, list[int]] = {
        "click_to_inbox": [],
        "inbox_to_order": [],
        "order_to_push": [],
        "push_to_answer": [],
    }
    lost = 0
    store, others = live[0], live[1:]
    for number in range(count):
        sku = goods[-1 - number % len(goods)]
        rows = Listing.objects.filter(account__in=others, sku=sku).values_list(*quantities.FACT_FIELDS)
        figures = {pk: shown.quantity for pk, shown in quantities.compute(quantities.facts(rows)).items()}
        began = now()
        client.place_order(store.config["shop"].split(".")[0], [{"sku": sku.code, "quantity": 1}])
        until = time.monotonic() + 30
        answered: dict[int, tuple[dt.datetime, dt.datetime]] = {}
        while len(answered) < len(figures) and time.monotonic() < until:
            time.sleep(0.02)
            pushes = StockPush.objects.filter(
                listing__in=figures, state=StockPush.State.ACKED, answered_at__gt=began
            )
            for listing, quantity, sent, at in pushes.order_by("-answered_at").values_list(
                "listing", "quantity", "sent_at", "answered_at"
            ):
                if at is not None and quantity < figures[listing]:
                    answered[listing] = (at, sent)
        if len(answered) < len(figures):
            lost += 1
            took.append(30_000)
        else:
            at, sent = max(answered.values())
            arrived = InboxMessage.objects.filter(account=store).latest("id").received_at
            booked = StockMovement.objects.filter(sku=sku, kind="reserve").latest("id").created_at
            steps = (began, arrived, booked, sent, at)
            took.append(_ms(began, at))
            for name, start, end in zip(stages, steps, steps[1:], strict=False):
                stages[name].append(_ms(start, end))
        time.sleep(0.3)
    took.sort()
    p95 = percentile(took, 0.95)
    assert p95 is not None
    report.figures |= {"order_to_all_others_p50_ms": percentile(took, 0.5), "order_to_all_others_p95_ms": p95,
                       "order_to_all_others_max_ms": took[-1]}  # fmt: skip
    report.figures |= {
        f"of_this_{name}_p50_ms": percentile(sorted(values), 0.5) for name, values in stages.items()
    }
    report.at_most(
        6,
        "buyer's order in one store → all other stores acknowledged, p95",
        p95 / 1000,
        1.0 if on_postgres() else 5.0,
        1.0,
        "s",
    )
    report.equal("single sales that did not arrive within 30 s", lost, 0)
    report.equal("orders from the store", Order.objects.filter(channel=store.sales_channel_id).count(), count)


def _many_sales(
    report: Report,
    client: SandboxClient,
    till: SalesChannel,
    live: Sequence[ChannelAccount],
    goods: Sequence[Sku],
    rate: int,
    seconds: int,
    running: Mapping[str, int],
) -> None:
    """Sales at a fixed rate; commit → acknowledged for every (movement, listing), superseded ones included."""
    dice = random.Random(7)
    cpu_before = cpu.used(running)
    calls_before = _calls(client)
    first = now()
    began = time.monotonic()
    wanted, made, behind = rate * seconds, 0, 0.0
    while made < wanted:
        time.sleep(TICK_SECONDS)
        due = min(wanted, int((time.monotonic() - began) * rate))
        if due <= made:
            continue
        drafts = [
            world.order(
                f"S{number}",
                [(goods[dice.randrange(10)] if dice.random() < POPULAR else dice.choice(goods), 1)],
            )
            for number in range(made, min(due, made + intake.BATCH))
        ]
        intake.take(drafts, channel=till, actor=world.ACTOR, source="api")
        made += len(drafts)
        behind = max(behind, time.monotonic() - began - made / rate)
    driven = time.monotonic() - began
    settled = settle()
    spent = cpu.per_unit(cpu_before, cpu.used(running), made)
    report.figures |= {f"cpu_ms_per_sale_{name.replace(' ', '_')}": value for name, value in spent.items()}
    report.figures |= {
        "cpu_ms_per_sale_all": sum(spent.values()),
        "routings_left": RoutingQueue.objects.count(),
    }
    calls = _sent(client, calls_before)
    found = _followed(first, live)
    waits, answers = _stages(first)
    p99, longest = found.percentile(0.99), found.percentile(1.0)
    report.figures |= {
        "sales": made, "sales_per_s_reached": made / driven, "driver_behind_s": behind, "movements": found.movements,
        "changes_of_listings": len(found.ages), "requests": calls, "figures_told": found.told,
        "sync_p50_ms": found.percentile(0.5), "sync_p95_ms": found.percentile(0.95), "sync_p99_ms": p99,
        "sync_max_ms": longest, "of_this_until_sent_p50_ms": percentile(sorted(waits), 0.5),
        "of_this_until_answered_p50_ms": percentile(sorted(answers), 0.5), "settled_after_s": settled,
    }  # fmt: skip
    report.at_most(6, "commit → acknowledged, p99", p99 / 1000, 1.0, 0.3, "s")
    report.at_most(6, "commit → acknowledged, longest", longest / 1000, 2.0, 2.0, "s")
    report.at_most(7, "requests sent per change of a listing", calls / max(1, len(found.ages)), 0.2, 0.05)
    report.equal("sales entered", Order.objects.filter(channel=till).count(), wanted)
    report.equal("changes not yet acknowledged", found.still_open, 0)


def _burst(
    report: Report,
    client: SandboxClient,
    till: SalesChannel,
    live: Sequence[ChannelAccount],
    wares: Sequence[Sku],
    name: str,
    sales: int,
) -> None:
    """So many sales as fast as they can be entered: few calls, soon over, and every store right."""
    dice = random.Random(11)
    drafts = [world.order(f"{name}{number}", [(dice.choice(wares), 1)]) for number in range(sales)]
    settle()
    calls_before, first, began = _calls(client), now(), time.monotonic()
    taken = intake.take(drafts, channel=till, actor=world.ACTOR, source="api")
    entered = time.monotonic() - began
    settle()
    calls, found = _sent(client, calls_before), _followed(first, live)
    p99 = found.percentile(0.99)
    word = f"burst_{name}"
    report.figures |= {
        f"{word}_sales": sales, f"{word}_skus": len(wares), f"{word}_entered_in_s": entered,
        f"{word}_requests": calls, f"{word}_sync_p50_ms": found.percentile(0.5), f"{word}_sync_p99_ms": p99,
        f"{word}_sync_max_ms": found.percentile(1.0),
    }  # fmt: skip
    what = "one SKU" if len(wares) == 1 else "all SKUs"
    report.at_most(
        6, f"{sales:,} sales of {what} at once: commit → acknowledged, p99", p99 / 1000, 5.0, 1.0, "s"
    )
    report.at_most(
        7,
        f"{sales:,} sales of {what} at once: requests per change",
        calls / max(1, len(found.ages)),
        0.2,
        0.05,
    )
    report.equal(f"{what}: sales entered", sum(one.outcome == "created" for one in taken), sales)
    report.equal(f"{what}: changes not yet acknowledged", found.still_open, 0)
    report.equal(f"{what}: listings whose store shows another figure", differences(client, live), [])


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of every (movement, listing) since a moment: ages in milliseconds, ascending."""

    movements: int
    ages: list[int]
    still_open: int
    told: int

    def percentile(self, share: float) -> float:
        return percentile(self.ages, share) or 0


def _followed(first: dt.datetime, live: Sequence[ChannelAccount]) -> Followed:
    """Commit → acknowledged of every sale since `first`; one that is not acknowledged yet counts with its age."""
    movements = list(
        StockMovement.objects.filter(kind="reserve", created_at__gte=first)
        .order_by("id")
        .values_list("sku", "balance", "created_at")
    )
    listings: dict[int, list[int]] = {}
    for listing, sku in Listing.objects.filter(account__in=live).values_list("pk", "sku"):
        if sku is not None:
            listings.setdefault(sku, []).append(listing)
    pushed = _pushed(first)
    ages, still_open = [], 0
    at = now()
    for sku, reserved, changed_at in movements:
        for listing in listings[sku]:
            taken_at = acknowledged(pushed.get(listing, Shown([], [])), UNITS - reserved)
            still_open += taken_at is None
            ages.append(max(0, _ms(changed_at, taken_at or at)))
    return Followed(len(movements), sorted(ages), still_open, sum(len(one.at) for one in pushed.values()))


def _stages(first: dt.datetime) -> tuple[list[int], list[int]]:
    """Of every figure told since `first`: how long until it was sent, and from then until the answer."""
    told = StockPush.objects.filter(
        state=StockPush.State.ACKED, sent_at__gte=first, answered_at__isnull=False
    )
    waits, answers = [], []
    for changed_at, sent_at, answered_at in told.values_list("changed_at", "sent_at", "answered_at"):
        assert answered_at is not None
        waits.append(_ms(changed_at, sent_at))
        answers.append(_ms(sent_at, answered_at))
    return waits, answers


def _sent(client: SandboxClient, before: Mapping[str, int]) -> int:
    """Stock requests that the stores have counted since `before`."""
    return sum(
        count - before.get(name, 0) for name, count in _calls(client).items() if "inventory" in name.lower()
    )


def _ms(start: dt.datetime, end: dt.datetime) -> int:
    return round((end - start).total_seconds() * 1000)


def _pushed(since: dt.datetime) -> dict[int, Shown]:
    """Per listing the acknowledged figures in order of answer, as a falling minimum."""
    found: dict[int, Shown] = {}
    rows = StockPush.objects.filter(state=StockPush.State.ACKED, answered_at__gte=since).order_by(
        "answered_at", "id"
    )
    for listing, quantity, at in rows.values_list("listing", "quantity", "answered_at"):
        if at is None:
            continue
        one = found.setdefault(listing, Shown([], []))
        one.at.append(at)
        one.lowest.append(max(-quantity, one.lowest[-1]) if one.lowest else -quantity)
    return found


def settle() -> float:
    """Wait until nothing is on its way; returns the seconds it took."""
    began = time.monotonic()
    wait(
        "the end of all pushes", SETTLE_SECONDS,
        lambda: not OutboxEvent.objects.filter(topic="stock.changed").exists() and not kpis.waiting(),
    )  # fmt: skip
    return time.monotonic() - began


def differences(client: SandboxClient, live: Sequence[ChannelAccount]) -> list[str]:
    """Stores and SKUs whose figure on the channel is not the one we compute."""
    wrong = []
    for account in live:
        rows = list(Listing.objects.filter(account=account).values_list(*quantities.FACT_FIELDS))
        codes = dict(Listing.objects.filter(account=account).values_list("pk", "external_sku"))
        there = client.stock(account.config["shop"].split(".")[0])
        for listing, shown in quantities.compute(quantities.facts(rows)).items():
            found = there[codes[listing]]["available"]
            if found != shown.quantity:
                wrong.append(f"{account.sales_channel.code} {codes[listing]}: {found} ≠ {shown.quantity}")
    return wrong[:5]


def _calls(client: SandboxClient) -> dict[str, int]:
    """Requests that the stores have counted, by operation."""
    total: dict[str, int] = {}
    for shop in client.stats()["shops"].values():
        for name, count in shop["operations"].items():
            total[name] = total.get(name, 0) + int(count)
    return total


# --- the world -------------------------------------------------------------------------------------


def _store(number: int) -> str:
    return f"bench-{number + 1}"


def open_store(client: SandboxClient, number: int, goods: Sequence[Sku], place: Warehouse) -> ChannelAccount:
    """A store in the sandbox, connected as a user would connect it."""
    name = _store(number)
    shop = client.create_shop(
        "shopify", name, name=name, currency="USD", locations=[{"name": place.code}],
        catalogue=[{"sku": sku.code, "title": sku.code, "price": "20.00", "stock": UNITS} for sku in goods],
        settings={"points_per_second": 1_000},  # the plan of a store that sells this much
    )  # fmt: skip
    channel = world.channel(name, [place])
    wanted = {field.name for field in get_connector("shopify").credential_fields}
    account = accounts.attach(
        channel.pk, connector="shopify", config={"shop": shop["domain"]},
        credentials={key: value for key, value in shop["credentials"].items() if key in wanted}, actor=world.ACTOR,
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=world.ACTOR)
    if not tested.ok or tested.facts is None:
        raise RuntimeError(f"{name}: {tested.message}")
    accounts.map_location(
        account.pk, tested.facts.locations[0][0], place.pk, actor=world.ACTOR, name=place.code
    )
    accounts.import_listings(account.pk, actor=world.ACTOR)
    accounts.go_live(account.pk, f"{settings.BASE_URL}/hooks/{account.hook_key}/", actor=world.ACTOR)
    account.refresh_from_db()
    return account


@contextlib.contextmanager
def process(*words: str) -> Iterator[int]:
    """One of the product's own processes, in a group of its own, stopped at the end; yields its id."""
    command = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), *words]
    environment = {name: value for name, value in os.environ.items() if name != "LADING_BENCH_OUT"}
    with open(settings.HOME / f"{words[0]}.log", "wb") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 our own
        try:
            yield child.pid
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(10)


def wait(what: str, seconds: float, done: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            tails = [f"{log.name}: {log.read_text()[-800:]}" for log in sorted(settings.HOME.glob("*.log"))]
            raise RuntimeError(
                "\n".join(
                    [*tails, f"{what} did not come within {seconds:.0f} s; the ends of the logs are above"]
                )
            )
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
