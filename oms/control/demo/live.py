"""The demo's channels in a sandbox: shops are opened there and connected as a user would connect real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings

from channels import accounts, filedrop, mcf, pulls
from channels.connectors.files import formats
from channels.models import ChannelAccount, ChannelFile, Listing, LocationMap
from channels.sandbox.client import SandboxClient, SandboxRefused
from fulfillment.models import ThreePLAccount
from fulfillment.threepl import accounts as threepl
from inventory.models import StockLevel, Warehouse
from oms.control.demo.catalogue import Item, items
from oms.control.demo.seed import ACTOR, CHANNELS
from oms.core.clock import now
from oms.core.csvsafe import stream_csv
from oms.core.errors import UserError
from oms.orders.models import SalesChannel

#: how many SKUs each channel lists, the most popular first; 0 = all
LISTED = {"shopify-us": 0, "shopify-outlet": 150, "shopify-trade": 120, "amazon-us": 90, "amazon-ca": 60}
#: units in Amazon's own warehouse, sold under a second offer of the same SKU
FBA_OFFERS = 20
SELLERS = {"amazon-us": ("AHARBOURUS", "ATVPDKIKX0DER"), "amazon-ca": ("AHARBOURCA", "A2EUQ1WTGCTBG2")}
#: best sellers of which Amazon ships orders of other channels too
SHIPPED_FOR_OTHERS = 6
#: a chain of shops that exchanges files, and how many SKUs it sells
STORES, STORES_SKUS = "corner-stores", 12
#: the 3PL that runs the warehouse OHIO
PARTNER = "midway"
AMAZON_HOSTS = (
    "api.amazon.com",
    "sellingpartnerapi-na.amazon.com",
    "sqs.us-east-1.amazonaws.com",
    "tortuga-prod-na.s3.amazonaws.com",
)


def host_map(sandbox: str) -> dict[str, str]:
    """OMS_HOST_MAP of the demo: every host its accounts speak to, played by the sandbox."""
    hosts = [*AMAZON_HOSTS, f"{PARTNER}.threepl.example"]
    hosts += [f"{code}.myshopify.com" for code, _, kind, *_ in CHANNELS if kind == "shopify"]
    return {host: f"{sandbox}/{host}" for host in hosts}


def connect(sandbox: str, say: Callable[[str], None] = lambda text: None) -> None:
    """Open every shop that is not there yet and connect every channel that has no account yet. Repeatable."""
    with SandboxClient(sandbox) as world:
        world.wait_ready(20)
        there = {shop["id"]: shop for shop in world.shops()}
        for code, name, kind, _prefix, _share, warehouses in CHANNELS:
            channel = SalesChannel.objects.get(code=code)
            shop_id = SELLERS[code][0] if kind == "amazon" else code
            fresh = shop_id not in there
            shop = (
                world.create_shop(kind, shop_id, **_shop(code, name, kind, warehouses))
                if fresh
                else there[shop_id]
            )
            account = ChannelAccount.objects.filter(sales_channel=channel).first()
            if account is None:
                account = _account(channel, kind, code, shop)
            if kind == "shopify":
                _locations(account, shop)
            elif code == "amazon-us":
                LocationMap.objects.get_or_create(
                    account=account,
                    warehouse=Warehouse.objects.get(code="FBA-US"),
                    defaults={"external_id": "FBA"},
                )
            tested = accounts.test(account.pk, actor=ACTOR)
            if not tested.ok:
                raise UserError(f"{name}: {tested.message}")
            if fresh:
                found = accounts.import_listings(account.pk, actor=ACTOR)
                topics = accounts.go_live(
                    account.pk, f"{settings.BASE_URL}/hooks/{account.hook_key}/", actor=ACTOR
                )
                say(f"{name}: {found.mapped} listings mapped, {len(topics)} notifications")
            if code == "amazon-us":
                _ship_for_others(world, account, fresh=fresh)
                say(f"{name}: ships {SHIPPED_FOR_OTHERS} SKUs for other channels (MCF)")
        _partner(world, fresh=PARTNER not in there)
        say("Midway 3PL: connected")
    if not SalesChannel.objects.filter(code=STORES).exists():
        stores = _stores()
        say(
            f"Corner Stores: files in channels/{STORES}, {stores.taken} orders taken, {stores.refused} row refused"
        )


def _ship_for_others(world: SandboxClient, account: ChannelAccount, *, fresh: bool) -> None:
    """Amazon's warehouse ships orders of our own shop and of the phone, where routing sends them there."""
    if fresh:
        world.set_settings(SELLERS["amazon-us"][0], outbound_ship_seconds=90)
    pulls.pull_pool(account.pk)
    tested = mcf.switch_on(account.pk, actor=ACTOR)
    if not tested.ok:
        raise UserError(tested.message)
    theirs = Listing.objects.filter(account=account, fulfilment=Listing.Fulfilment.CHANNEL, sku__isnull=False)
    for listing in theirs.order_by("pk")[:SHIPPED_FOR_OTHERS]:
        mcf.allow(listing.pk, True, actor=ACTOR)


def _stores() -> ChannelFile:
    """A partner without an interface: its SKUs, its first orders and one row that it has to mend."""
    sold = _listed("amazon-us")[:STORES_SKUS]
    day = now().strftime("%Y-%m-%d")
    header = (
        "Order No,Order Date,Status,SKU,Qty,Unit Price,Currency,Ship To Name,Address,City,State,Zip,Country"
    )
    rows = [
        [number, f"{day} 06:00", "paid", item.code, units, str(item.price), "USD", *buyer, "US"]
        for number, item, units, buyer in (
            ("70311", sold[0], "4", ("Corner Store Elm St", "12 Elm Street", "Boston", "MA", "02108")),
            ("70311", sold[3], "2", ("Corner Store Elm St", "12 Elm Street", "Boston", "MA", "02108")),
            ("70312", sold[5], "3", ("Corner Store Dock", "5 Dock Road", "Reno", "NV", "89501")),
            ("70313", sold[1], "a dozen", ("Corner Store Oak Ave", "88 Oak Avenue", "Austin", "TX", "78704")),
        )
    ]
    orders = "".join(stream_csv(header.split(","), rows))
    sample = filedrop.sample_of(orders.encode())
    account = accounts.connect(
        connector="files", name="Corner Stores", code=STORES, prefix="CS", credentials={}, actor=ACTOR,
        config={
            "folder": STORES, "fetched": "no",
            "orders": formats.propose(sample.header, sample.rows, {}).orders,
        },
        warehouse_ids=[Warehouse.objects.get(code="EAST").pk],
    )  # fmt: skip
    tested = accounts.test(account.pk, actor=ACTOR)
    if not tested.ok:
        raise UserError(f"Corner Stores: {tested.message}")
    offers = "".join(stream_csv(["sku", "title"], [[item.code, item.title] for item in sold]))
    filedrop.take(account.pk, "listings.csv", offers.encode(), actor=ACTOR)
    accounts.import_listings(account.pk, actor=ACTOR)
    return filedrop.take(account.pk, "orders-today.csv", orders.encode(), actor=ACTOR)


def _partner(world: SandboxClient, *, fresh: bool) -> None:
    """The 3PL that runs OHIO: it has what our books say but for two SKUs, acknowledges and ships by itself."""
    place = Warehouse.objects.get(code="OHIO")
    if fresh:
        levels = StockLevel.objects.filter(warehouse=place).select_related("sku").order_by("sku__code")
        stock = {
            level.sku.code: {
                "on_hand": level.on_hand - level.quarantine,
                "damaged": level.damaged + level.inspection,
            }
            for level in levels
        }
        many = [code for code, units in stock.items() if units["on_hand"] - units["damaged"] > 20]
        for code, units in zip(many[3:40:20], (-3, 2), strict=False):
            stock[code]["on_hand"] += units
        world.create_shop("threepl", PARTNER, name="Midway 3PL", stock=stock)
    shop = world.shop(PARTNER)
    account = ThreePLAccount.objects.filter(code=PARTNER).first()
    if account is None:
        account = threepl.connect(
            code=PARTNER, name="Midway 3PL", warehouse_id=place.pk, kind="api", base_url=shop["base_url"],
            credentials=shop["credentials"], snapshot_minutes=5, actor=ACTOR,
        )  # fmt: skip
    elif fresh:
        threepl.change(account.pk, actor=ACTOR, credentials=shop["credentials"])
    hook = f"{settings.BASE_URL}/hooks/3pl/{account.hook_key}/"
    world.set_settings(PARTNER, hook_url=hook, ack_seconds=3, ship_seconds=40)
    tested = threepl.test(account.pk, actor=ACTOR)
    if not tested.ok:
        raise UserError(tested.message)


def shop(sandbox: str, rate: float) -> None:
    """Let shoppers buy all day. The better a SKU sells, the more of them want it."""
    weights = {}
    for code, _name, kind, _prefix, share, _w in CHANNELS:
        weights[SELLERS[code][0] if kind == "amazon" else code] = share
    with SandboxClient(sandbox) as world:
        try:
            world.start_shoppers(
                rate_per_second=rate,
                seed=7,
                weights=weights,
                skus={item.code: item.popularity for item in items()},
                lines_max=3,
                quantity_max=2,
                pending_share=0.05,
                risk_share=0.03,
            )
        except SandboxRefused as error:
            raise UserError(f"shoppers: {error}") from error


def _listed(code: str) -> list[Item]:
    ranked = sorted(items(), key=lambda item: -item.popularity)
    if code.startswith("amazon"):
        ranked = [item for item in ranked if not item.parts]
    return ranked[: LISTED[code] or None]


def _shop(code: str, name: str, kind: str, warehouses: tuple[str, ...]) -> dict[str, Any]:
    """What the shop is like before we connect: its catalogue and what it believes to have."""
    free = _free(warehouses)
    catalogue = []
    for item in _listed(code):
        entry: dict[str, Any] = {
            "sku": item.code,
            "title": item.title,
            "price": str(item.price),
            "barcode": "" if item.parts else item.gtin,
            "weight_g": item.weight_g or 900,
            "physical": dict(item.parts) or {item.code: 1},
        }
        entry["stock"] = (
            sum(free[item.code].values())
            if kind == "amazon"
            else {place: free[item.code].get(place, 0) for place in warehouses}
        )
        catalogue.append(entry)
    spec: dict[str, Any] = {"name": name, "currency": "USD", "catalogue": catalogue}
    if kind == "shopify":
        spec["locations"] = [{"name": place} for place in warehouses]
        return spec
    spec |= {"marketplace_id": SELLERS[code][1], "subscribe": True}
    if code == "amazon-us":
        spec["catalogue"] += [
            {
                "sku": f"{item.code}-FBA",
                "title": item.title,
                "price": str(item.price),
                "fba": 12 + index,
                "physical": {f"{item.code}-FBA": 1},
            }
            for index, item in enumerate(_listed(code)[:FBA_OFFERS])
        ]
    return spec


def _free(warehouses: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Available units per SKU code and warehouse; kits as many as the scarcest component makes."""
    levels = StockLevel.objects.filter(warehouse__code__in=warehouses).select_related("warehouse", "sku")
    by_id: dict[int, dict[str, int]] = {}
    ids: dict[str, int] = {}
    for level in levels:
        by_id.setdefault(level.sku_id, {})[level.warehouse.code] = max(0, level.available)
        ids[level.sku.code] = level.sku_id
    found = {code: dict(by_id[pk]) for code, pk in ids.items()}
    for item in items():
        if item.parts:
            found[item.code] = {
                place: min(found.get(code, {}).get(place, 0) // count for code, count in item.parts)
                for place in warehouses
            }
        found.setdefault(item.code, {})
    return found


def _account(channel: SalesChannel, kind: str, code: str, shop: dict[str, Any]) -> ChannelAccount:
    port = accounts.connector_of(kind)
    wanted = {field.name for field in port.credential_fields}
    given = {name: value for name, value in shop["credentials"].items() if name in wanted}
    if kind == "shopify":
        config = {"shop": f"{code}.myshopify.com"}
    else:
        config = {
            "seller_id": shop["id"],
            "marketplace_id": shop["marketplace_id"],
            "queue_url": shop["queue_url"],
        }
    return accounts.attach(channel.pk, connector=kind, config=config, credentials=given, actor=ACTOR)


def _locations(account: ChannelAccount, shop: dict[str, Any]) -> None:
    places = {w.code: w for w in Warehouse.objects.all()}
    for location in shop["locations"]:
        if not account.locations.filter(external_id=location["gid"]).exists():
            accounts.map_location(
                account.pk, location["gid"], places[location["name"]].pk, actor=ACTOR, name=location["name"]
            )
