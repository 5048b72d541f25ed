"""Real processes killed with -9 while buyers buy: nothing is lost, doubled or left wrong on a channel."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from channels.sandbox.client import SandboxClient, SandboxRefused
from channels.sandbox.server import run_in_thread

ROOT = Path(__file__).resolve().parents[2]
ORDERS = 30
ADDRESS = {
    "name": "Ada Brooks",
    "address1": "12 Oak St",
    "city": "Boston",
    "province_code": "MA",
    "zip": "02108",
    "country_code": "US",
}

#: runs inside the installation, once: the brand, its channels, a token for the floor
SET_UP = """
import json, os, sys
from decimal import Decimal
from channels import accounts
from inventory.models import Warehouse
from oms.control.demo import seed
from oms.core import tokens
from oms.core.actor import SYSTEM
from tests.factories import add_stock, make_sku, make_user

given = json.loads(os.environ["LINE_SET_UP"])
places = seed._warehouses(); seed._carriers(places)
for code in given["skus"]:
    sku = make_sku(code, weight_g=400, length_mm=120, width_mm=100, height_mm=100)
    add_stock(sku, places["EAST"], 60, unit_cost=Decimal("5"))
    add_stock(sku, places["WEST"], 40, unit_cost=Decimal("5"))
both = [places["EAST"].pk, places["WEST"].pk]
for kind, shop in given["shops"].items():
    amazon = kind == "amazon"
    config = {n: shop[n] for n in ("seller_id", "marketplace_id", "queue_url")} if amazon else {"shop": shop["domain"]}
    names = [field.name for field in accounts.connector_of(kind).credential_fields]
    account = accounts.connect(
        connector=kind, name=kind, code=kind, prefix=kind[:2].upper(), config=config, warehouse_ids=both, actor=SYSTEM,
        credentials={n: shop["credentials"][n] for n in names if n in shop["credentials"]},
    )
    tested = accounts.test(account.pk, actor=SYSTEM)
    assert tested.ok, tested.message
    for external_id, name in tested.facts.locations if not amazon else ():
        accounts.map_location(account.pk, external_id, places[name].pk, actor=SYSTEM)
    accounts.import_listings(account.pk, actor=SYSTEM)
    accounts.go_live(account.pk, f"{given['web']}/hooks/{account.hook_key}/", actor=SYSTEM)
_, secret = tokens.issue(make_user("olga"), "floor", ["shipments:read", "shipments:write"], actor=SYSTEM)
print("token", secret)
"""

#: runs inside the installation after the storm: what its books say
LOOK = """
import json
from channels.models import ChannelEffect, InboxMessage, Listing
from channels.quantities import sellable
from fulfillment.models import LabelPurchase, Shipment
from inventory.models import StockLevel
from oms.core.models import Doorbell, OutboxEvent
from oms.orders.models import Order, OrderLine
levels = StockLevel.objects.select_related("sku")
print(json.dumps({
    "orders": list(Order.objects.values_list("external_id", flat=True)),
    "sold": sum(OrderLine.objects.values_list("quantity", flat=True)),
    "short": sum(OrderLine.objects.values_list("short", flat=True)),
    "on_hand": sum(level.on_hand for level in levels),
    "reserved": sum(level.reserved for level in levels),
    "shipped": sum(OrderLine.objects.values_list("shipped", flat=True)),
    "unrouted": Order.objects.filter(state="open").count(),
    "listings": [
        [row.account.connector, row.external_sku, row.location_id, sellable(row.pk).quantity, row.acked_quantity,
         row.stale_since is not None]
        for row in Listing.objects.select_related("account").exclude(sku=None)
    ],
    "inbox": InboxMessage.objects.filter(state="received").count(),
    "dead": list(InboxMessage.objects.filter(state="dead").values_list("error", flat=True)),
    "news": OutboxEvent.objects.count(),
    "effects": list(ChannelEffect.objects.exclude(state="confirmed").values_list("kind", "state", "error")),
    "labels": list(LabelPurchase.objects.values_list("parcel", "state")),
    "gone": list(Shipment.objects.filter(state="shipped").values_list("order__external_id", flat=True)),
}))
"""


class House:
    """An installation of its own: database, files, web, worker and dispatcher as processes."""

    def __init__(self, home: Path, database: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.web = f"http://127.0.0.1:{self.port}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMS_", "DATABASE_", "DJANGO_"))}
        self.env = kept | {"OMS_HOME": str(home), "OMS_LOG_LEVEL": "ERROR", "OMS_WORKERS": "1"}
        self.env |= {"OMS_BASE_URL": self.web, "PYTHONPATH": str(ROOT)}
        self.env |= {"OMS_API_RATE": "100000/min"}  # the floor of this test asks without a pause
        if database:
            self.env["DATABASE_URL"] = database
            self.env["OMS_SECRET_KEY"] = "x" * 60
            from cryptography.fernet import Fernet

            self.env["OMS_FIELD_KEYS"] = f"k1:{Fernet.generate_key().decode()}"
            self.env["OMS_ALLOWED_HOSTS"] = "127.0.0.1"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.everybody: set[int] = set()

    COMMANDS = {"web": ["serve"], "worker": ["worker"], "dispatcher": ["dispatch"]}

    def start(self, name: str) -> None:
        words = [*self.COMMANDS[name], *(["--port", str(self.port)] if name == "web" else [])]
        self.running[name] = subprocess.Popen(
            [sys.executable, "manage.py", *words], cwd=ROOT, env=self.env, stdout=subprocess.DEVNULL
        )

    def kill(self, name: str) -> None:
        """-9 for the process and whatever it has started; the same command is run again."""
        process = self.running[name]
        family = [process.pid, *children(process.pid)]
        for pid in family:
            _kill(pid)
        process.wait(10)
        self.start(name)

    def stop(self) -> None:
        family = [pid for process in self.running.values() for pid in (process.pid, *children(process.pid))]
        for pid in family:
            _kill(pid)
        for process in self.running.values():
            process.wait(10)

    def manage(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, code: str) -> str:
        return self.manage("shell", "--no-imports", "-c", code)

    def look(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(LOOK).splitlines()[-1])
        return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def children(pid: int) -> list[int]:
    """All descendants."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found += [int(path.parent.name), *children(int(path.parent.name))]
    return found


def until(true: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found


@pytest.fixture
def database() -> Iterator[str]:
    """A PostgreSQL database of its own where the suite runs on PostgreSQL; nothing for the embedded one."""
    address = os.environ.get("DATABASE_URL", "")
    if not address.startswith("postgres"):
        yield ""
        return
    import psycopg

    name = f"lading_kill_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(address, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        yield urlunsplit(urlsplit(address)._replace(path=f"/{name}"))
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def house(tmp_path: Path, database: str) -> Iterator[House]:
    made = House(tmp_path, database)
    yield made
    made.stop()


@pytest.fixture
def world() -> Iterator[SandboxClient]:
    handle = run_in_thread()
    with SandboxClient(handle.url) as client:
        yield client
    handle.stop()


class Floor:
    """Somebody who picks, labels and ships over the API while processes die, repeating whatever had no answer."""

    STEPS = ("claim", "scan", "pack", "rates", "label", "ship")

    def __init__(self, web: str, token: str) -> None:
        self.http = httpx.Client(
            base_url=f"{web}/api/v1/",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=5,
        )

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any] | None:
        try:
            answer = self.http.request(method, path, json=body)
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code < 300 else None

    def turn(self) -> int:
        """One step for each of the oldest open shipments; every label is asked for twice."""
        found = self.ask("GET", "shipments/?limit=50")
        rows = [
            row
            for row in (found or {}).get("results", [])
            if row["state"] not in ("shipped", "delivered", "cancelled")
        ]
        for row in rows[-4:]:
            at = f"shipments/{row['id']}"
            if row["state"] == "ready":
                self.ask("POST", f"{at}/claim/", {})
            elif row["state"] == "picking":
                for line in row["lines"]:
                    left = line["quantity"] - line["picked"]
                    if left:
                        self.ask("POST", f"{at}/scan/", {"code": line["sku"], "quantity": left})
                self.ask("POST", f"{at}/pack/", {})
            elif row["state"] == "packed":
                self.ask("POST", f"{at}/rates/", {})
                self.ask("POST", f"{at}/label/", {})
                self.ask("POST", f"{at}/label/", {})
            else:
                self.ask("POST", f"{at}/ship/", {})
        return len(rows)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(600)
def test_killing_every_process_loses_and_doubles_nothing(house: House, world: SandboxClient) -> None:
    skus = ["MUG", "BOWL", "TRAY"]
    goods = [{"sku": code, "title": code, "price": "10.00", "stock": 1} for code in skus]
    places = [{"name": "EAST"}, {"name": "WEST"}]
    spread = [{**one, "stock": {"EAST": 1, "WEST": 1}} for one in goods]
    shops = {
        "shopify": world.create_shop("shopify", "acme", currency="USD", locations=places, catalogue=spread),
        "amazon": world.create_shop("amazon", "A1KILL", currency="USD", catalogue=goods),
    }  # fmt: skip
    names = {"shopify": "acme", "amazon": "A1KILL"}
    world.set_settings("acme", webhook_retry_seconds=[0.5] * 60)
    world.set_settings("A1KILL", visibility_timeout=5)  # a message taken by a killed process comes back soon
    house.env["OMS_HOST_MAP"] = json.dumps(world.host_map())
    house.env["LINE_SET_UP"] = json.dumps({"skus": skus, "shops": shops, "web": house.web})
    house.manage("migrate", "--noinput", "--verbosity", "0")
    token = house.run(SET_UP).split("token ")[1].split()[0]
    for name in house.COMMANDS:
        house.start(name)
    floor = Floor(house.web, token)
    until(lambda: floor.ask("GET", "shipments/") is not None, 40)
    until(
        lambda: all(world.available(names[kind], "MUG") > 10 for kind in names), 40
    )  # told by the dispatcher

    placed: list[str] = []
    lost = 0
    victims = ["worker", "dispatcher", "web"]
    for number in range(ORDERS):
        kind = "amazon" if number % 3 == 0 else "shopify"
        line = {"sku": skus[number % len(skus)], "quantity": 1 + number % 2}
        try:
            placed.append(
                str(world.place_order(names[kind], [line], address=ADDRESS, email="ada@example.com")["id"])
            )
        except SandboxRefused:
            lost += 1
        floor.turn()
        if number % 10 == 6:
            until(floor.turn, 120)  # orders have come through and there is work on the floor
            house.kill(victims[number // 10])
    assert len(placed) == ORDERS and not lost

    def quiet() -> dict[str, Any] | None:
        for _ in range(5):
            floor.turn()
        found = house.look()
        waiting = (found["inbox"], found["news"], found["unrouted"], len(found["effects"]))
        stale = [row for row in found["listings"] if row[5] or row[3] != row[4]]
        done = not any(waiting) and not stale and sorted(found["orders"]) == sorted(placed) and found["gone"]
        return found if done else None

    found = until(quiet, 240)
    assert found["dead"] == []
    assert (found["sold"], found["short"]) == (sum(1 + n % 2 for n in range(ORDERS)), 0)
    assert found["on_hand"] == 300 - found["shipped"]
    assert found["reserved"] == found["sold"] - found["shipped"]
    for kind in names:
        for code in skus:
            wanted = sum(row[3] for row in found["listings"] if row[:2] == [kind, code])
            assert world.available(names[kind], code) == wanted == 100 - units(code)
    # labels and news of shipments: one per parcel, although the floor asked twice and processes died
    bought = [parcel for parcel, state in found["labels"] if state == "purchased"]
    assert len(bought) == len(set(bought)) and len(bought) >= len(found["gone"]) > 0
    told = [one["order_id"] for name in names.values() for one in world.fulfilments(name)]
    assert sorted(told) == sorted(found["gone"])
    house.manage("check_invariants")


def units(code: str) -> int:
    skus = ["MUG", "BOWL", "TRAY"]
    return sum(1 + number % 2 for number in range(ORDERS) if skus[number % 3] == code)
