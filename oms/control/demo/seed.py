"""Build the demo brand through the same services as real data: users, places, goods, suppliers, a year of sales."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Callable
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import transaction

from fulfillment import routing_service
from fulfillment.models import CarrierAccount, CarrierService, PackageType, RateBreak, RateCard, Surcharge
from inventory import kits
from inventory.ledger import Movement, post_movements
from inventory.models import (
    Product,
    Sku,
    SkuAlias,
    StockLevel,
    StockMovement,
    Warehouse,
    WarehouseClosure,
    WarehouseHours,
)
from oms.control.demo.catalogue import SUPPLIERS, Item, items
from oms.core import business
from oms.core.actor import Actor
from oms.core.clock import business_day, now
from oms.core.models import Membership, MembershipScope, User
from oms.orders import demand, intake, pii, supply
from oms.orders.drafts import ContactDraft, LineDraft, OrderDraft
from oms.orders.models import ChannelWarehouse, Order, SalesChannel
from procurement import landed, purchase_orders, receiving
from procurement.models import PurchaseOrder, Receipt, Supplier, SupplierOffer
from returns.models import ReturnReason

ACTOR = Actor("system", "demo")
PASSWORD = "harbour-and-pine"  # noqa: S105 printed by the demo, never used elsewhere
SEED = 20261123
HISTORY_ORDERS = 5000

LOGINS = (
    # name, role, first and last name, warehouses
    ("ana", "owner", "Ana Ruiz", ()),
    ("omar", "ops", "Omar Haddad", ()),
    ("finn", "floor", "Finn Lund", ("EAST",)),
    ("bea", "buyer", "Bea Castel", ()),
    ("sam", "support", "Sam Okoro", ()),
    ("fay", "finance", "Fay Lindqvist", ()),
    ("tess", "threepl", "Tess Moreau", ("OHIO",)),
    ("dana", "datafixer", "Dana Kovac", ()),
)

#: code, name, kind, prefix, share of sales, warehouses in order of the provisional promise
CHANNELS = (
    ("shopify-us", "Harbour & Pine", "shopify", "SH", 0.38, ("EAST", "WEST", "OHIO")),
    ("shopify-outlet", "Harbour Outlet", "shopify", "OU", 0.14, ("WEST", "EAST")),
    ("shopify-trade", "Pine Trade", "shopify", "TR", 0.08, ("OHIO", "EAST")),
    ("amazon-us", "Amazon US", "amazon", "AM", 0.28, ("EAST", "WEST")),
    ("amazon-ca", "Amazon Canada", "amazon", "AC", 0.12, ("WEST", "EAST")),
)

_FIRST = (
    "Alma",
    "Ben",
    "Cora",
    "Dev",
    "Elif",
    "Femi",
    "Gwen",
    "Hugo",
    "Iris",
    "Jon",
    "Kira",
    "Luis",
    "Mina",
    "Noor",
    "Otto",
    "Pia",
)
_LAST = (
    "Archer",
    "Bloom",
    "Carver",
    "Diaz",
    "Ekman",
    "Flores",
    "Grant",
    "Hale",
    "Ito",
    "Jansen",
    "Kaya",
    "Lowe",
    "Mora",
    "Nash",
)
PLACES = (
    ("New York", "NY", "10013"),
    ("Boston", "MA", "02116"),
    ("Atlanta", "GA", "30309"),
    ("Chicago", "IL", "60614"),
    ("Austin", "TX", "78704"),
    ("Denver", "CO", "80205"),
    ("Seattle", "WA", "98103"),
    ("Portland", "OR", "97211"),
    ("Los Angeles", "CA", "90026"),
    ("San Diego", "CA", "92103"),
    ("Miami", "FL", "33137"),
    ("Nashville", "TN", "37206"),
    ("Columbus", "OH", "43215"),
    ("Philadelphia", "PA", "19123"),
    ("Minneapolis", "MN", "55408"),
    ("Phoenix", "AZ", "85004"),
)


def seed(say: Callable[[str], None] = lambda text: None, *, history: int = HISTORY_ORDERS) -> bool:
    """Build everything once; False when the demo brand is there already."""
    if SalesChannel.objects.filter(code=CHANNELS[0][0]).exists():
        return False
    rng = random.Random(SEED)  # the demo is the same everywhere
    with transaction.atomic():
        business.put("company_name", "Harbour & Pine")
        _people()
        places = _warehouses()
        skus = _goods()
        _channels(places)
        _carriers(places)
        _reasons()
        suppliers = _suppliers(skus)
    say(f"{len(skus)} SKUs, {len(places)} warehouses, {len(CHANNELS)} channels")
    catalogue = list(items())
    _history(rng, catalogue, skus, history, say)
    _opening_stock(rng, catalogue, skus, places)
    _purchasing(rng, skus, places, suppliers)
    routing_service.publish(
        [
            {
                "name": "Fraud risk",
                "when": {"field": "risk", "op": "eq", "value": "high"},
                "then": {"hold": "high fraud risk"},
                "stop": True,
            },
            {
                "name": "West coast from West",
                "when": {"field": "region", "op": "in", "value": ["CA", "OR", "WA", "NV", "AZ"]},
                "then": {"prefer": ["WEST", "EAST"]},
            },
            {
                "name": "Heavy parcels by cost",
                "when": {"field": "weight_g", "op": "gt", "value": 4000},
                "then": {"rank": ["cost", "ship_day"]},
            },
            {"name": "At most two parcels", "then": {"max_splits": 2}},
        ],
        actor=ACTOR,
        note="demo rules",
    )
    today = business_day()
    demand.roll_up(today - dt.timedelta(days=back) for back in range(366))
    found = supply.plan_reorders(actor=ACTOR)
    say(f"{found['new']} reorder suggestions from a year of demand")
    return True


def _people() -> None:
    for username, role, name, scopes in LOGINS:
        first, last = name.split()
        user = User.objects.create_user(
            username, f"{username}@harbourandpine.example", PASSWORD, first_name=first, last_name=last
        )
        user.is_staff = role in ("owner", "datafixer")
        user.is_superuser = role == "owner"
        user.save()
        membership = Membership.objects.create(user=user, role=role)
        MembershipScope.objects.bulk_create(
            MembershipScope(membership=membership, kind=MembershipScope.Kind.WAREHOUSE, code=code)
            for code in scopes
        )


def _warehouses() -> dict[str, Warehouse]:
    kind = Warehouse.Kind
    made = {
        w.code: w
        for w in (
            Warehouse(
                code="EAST",
                name="East, Newark",
                kind=kind.OWN,
                company="Harbour & Pine",
                address1="200 Port Street",
                city="Newark",
                region="NJ",
                postal_code="07114",
                time_zone="America/New_York",
                priority=10,
                capacity_per_day=400,
                handling_cost=Decimal("1.10"),
                phone="+1 973 555 0100",
            ),
            Warehouse(
                code="WEST",
                name="West, Reno",
                kind=kind.OWN,
                company="Harbour & Pine",
                address1="81 Vista Boulevard",
                city="Reno",
                region="NV",
                postal_code="89502",
                time_zone="America/Los_Angeles",
                priority=20,
                capacity_per_day=250,
                handling_cost=Decimal("1.25"),
                phone="+1 775 555 0100",
            ),
            Warehouse(
                code="OHIO",
                name="Midway 3PL, Ohio",
                kind=kind.THREEPL,
                company="Midway Logistics",
                address1="9 Freight Road",
                city="Columbus",
                region="OH",
                postal_code="43207",
                time_zone="America/New_York",
                priority=30,
                handling_cost=Decimal("2.40"),
                phone="+1 614 555 0100",
            ),
            Warehouse(
                code="FBA-US",
                name="Amazon FBA, US",
                kind=kind.FBA,
                company="Amazon",
                city="Amazon fulfilment",
                region="",
                postal_code="",
                time_zone="UTC",
                priority=90,
            ),
        )
    }
    Warehouse.objects.bulk_create(made.values())
    for code, cut_off, days in (("EAST", dt.time(15), 6), ("WEST", dt.time(14), 5), ("OHIO", dt.time(13), 5)):
        WarehouseHours.objects.bulk_create(
            WarehouseHours(warehouse=made[code], weekday=day, cut_off=dt.time(11) if day == 5 else cut_off)
            for day in range(days)
        )
        year = business_day().year
        WarehouseClosure.objects.bulk_create(
            WarehouseClosure(
                warehouse=made[code], first_day=dt.date(y, m, d), last_day=dt.date(y, m, d), reason=reason
            )
            for y in (year, year + 1)
            for m, d, reason in ((12, 25, "Christmas Day"), (1, 1, "New Year's Day"))
        )
    return made


def _goods() -> dict[str, Sku]:
    products: dict[str, Product] = {}
    listed = list(items())
    for item in listed:
        products.setdefault(
            item.product,
            Product(title=item.product, brand="Harbour & Pine", category=item.category, motif=item.motif),
        )
    Product.objects.bulk_create(products.values())
    skus = {
        item.code: Sku(
            product=products[item.product],
            code=item.code,
            title=item.title,
            options=item.options,
            kind=Sku.Kind.KIT if item.parts else Sku.Kind.STOCK,
            weight_g=item.weight_g or None,
            length_mm=item.size_mm[0] or None,
            width_mm=item.size_mm[1] or None,
            height_mm=item.size_mm[2] or None,
            hs_code=item.hs_code,
            origin_country="PT" if item.category == "Kitchen" else "US",
            unit_cost=item.cost,
            price=item.price,
            currency="USD",
        )
        for item in listed
    }
    Sku.objects.bulk_create(skus.values(), batch_size=200)
    SkuAlias.objects.bulk_create(
        (
            SkuAlias(sku=skus[item.code], kind=SkuAlias.Kind.GTIN, value=item.gtin)
            for item in listed
            if not item.parts
        ),
        batch_size=200,
    )
    # the offers that Amazon ships itself are the same goods under a second code; the last two wait for a person
    best = sorted((item for item in listed if not item.parts), key=lambda item: -item.popularity)[:18]
    SkuAlias.objects.bulk_create(
        SkuAlias(sku=skus[item.code], kind=SkuAlias.Kind.CODE, value=f"{item.code}-FBA") for item in best
    )
    for item in listed:
        if item.parts:
            kits.set_components(
                skus[item.code].pk, {skus[code].pk: count for code, count in item.parts}, actor=ACTOR
            )
    return skus


def _channels(places: dict[str, Warehouse]) -> None:
    for code, name, kind, prefix, _share, warehouses in CHANNELS:
        amazon = kind == "amazon"
        channel = SalesChannel.objects.create(
            code=code,
            name=name,
            kind=kind,
            prefix=prefix,
            currency="USD",
            time_zone="America/New_York",
            handling_days=1,
            pii_days=30 if amazon else None,
        )
        for rank, place in enumerate(warehouses, start=1):
            ChannelWarehouse.objects.create(channel=channel, warehouse=places[place], rank=rank)
        if code == "amazon-us":
            ChannelWarehouse.objects.create(
                channel=channel, warehouse=places["FBA-US"], rank=9, fulfils=False
            )
    manual = SalesChannel.objects.create(
        code="phone", name="Phone and files", kind="manual", prefix="PH", time_zone="America/New_York"
    )
    for rank, place in enumerate(("EAST", "WEST"), start=1):
        ChannelWarehouse.objects.create(channel=manual, warehouse=places[place], rank=rank)


#: account, service, name, price of the first pound by zone 2…8, per further pound, transit days by zone
_SERVICES = (
    ("harbour-parcel", "economy", "Economy", "5.10", "0.42", "0.55", (3, 4, 4, 5, 6, 7, 8)),
    ("harbour-parcel", "ground", "Ground", "6.40", "0.61", "0.62", (1, 2, 3, 3, 4, 5, 5)),
    ("harbour-parcel", "two-day", "Two Day", "13.80", "1.45", "1.30", (2, 2, 2, 2, 2, 2, 2)),
    ("blue-heron", "saver", "Heron Saver", "5.60", "0.50", "0.58", (2, 3, 4, 4, 5, 6, 7)),
    ("blue-heron", "next-day", "Heron Next Day", "27.50", "2.60", "2.40", (1, 1, 1, 1, 1, 1, 1)),
)


def _carriers(places: dict[str, Warehouse]) -> None:
    accounts = {}
    for preference, (code, name) in enumerate(
        (("harbour-parcel", "Harbour Parcel"), ("blue-heron", "Blue Heron Express")), start=1
    ):
        accounts[code] = CarrierAccount.objects.create(
            code=code, name=name, connector="table_rate", preference=preference * 10
        )
    start = dt.date(business_day().year - 1, 1, 1)
    for account, code, name, base, per_zone, per_pound, days in _SERVICES:
        service = CarrierService.objects.create(
            account=accounts[account],
            code=code,
            name=name,
            rules={
                "dim_divisor": 139,
                "dim_unit": "in",
                "dim_rounding": "up",
                "weight_step": "1 lb",
                "min_weight": "1 lb",
                "extra_step": "1 kg",
                "max_weight_g": 31_751,
                "max_length_mm": 2743,
                "max_length_girth_mm": 4191,
                "countries": ["US"],
                "transit_days": {str(zone): count for zone, count in zip(range(2, 9), days, strict=True)},
            },
        )
        card = RateCard.objects.create(service=service, currency="USD", valid_from=start)
        RateBreak.objects.bulk_create(
            RateBreak(
                card=card,
                zone=str(zone),
                up_to_g=math.ceil(pounds * 453.59237),
                price=(
                    Decimal(base) + Decimal(per_zone) * (zone - 2) + Decimal(per_pound) * (pounds - 1)
                ).quantize(Decimal("0.01")),
                per_extra_kg=Decimal("1.60") if pounds == 70 else None,
            )
            for zone in range(2, 9)
            for pounds in (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70)
        )
        Surcharge.objects.create(
            service=service,
            code="residential",
            name="Residential",
            position=10,
            amount=Decimal("0.95"),
            conditions={"residential": True},
            valid_from=start,
        )
        Surcharge.objects.create(
            service=service,
            code="fuel",
            name="Fuel",
            position=90,
            percent=Decimal("9.5"),
            applies_to=["base", "residential"],
            valid_from=start,
        )
    PackageType.objects.bulk_create(
        PackageType(
            name=name, length_mm=length, width_mm=width, height_mm=height, tare_g=tare, max_weight_g=limit
        )
        for name, length, width, height, tare, limit in (
            ("Mailer", 330, 250, 60, 45, 2000),
            ("Small box", 260, 200, 150, 120, 6000),
            ("Medium box", 380, 300, 220, 240, 12000),
            ("Large box", 520, 470, 360, 520, 25000),
            ("Tube", 640, 90, 90, 110, 1500),
        )
    )


def _reasons() -> None:
    ReturnReason.objects.bulk_create(
        ReturnReason(code=code, name=name, our_fault=fault)
        for code, name, fault in (
            ("changed_mind", "Changed mind", False),
            ("too_small", "Too small", False),
            ("too_large", "Too large", False),
            ("not_as_described", "Not as described", False),
            ("arrived_broken", "Arrived broken", True),
            ("wrong_item", "Wrong item sent", True),
            ("missing_part", "Part missing", True),
            ("late", "Arrived too late", False),
        )
    )


def _suppliers(skus: dict[str, Sku]) -> dict[str, Supplier]:
    made = {}
    for code, name, currency, lead, country, _categories, _moq, _case in SUPPLIERS:
        made[code] = Supplier.objects.create(
            code=code,
            name=name,
            currency=currency,
            lead_time_days=lead,
            country=country,
            email=f"orders@{code.lower()}.example",
            over_receipt_percent=Decimal("5"),
        )
    offers = []
    for item in items():
        if item.parts:
            continue
        rank = 0
        for code, _name, currency, _lead, _country, categories, moq, case in SUPPLIERS:
            if item.category in categories:
                rank += 1
                offers.append(
                    SupplierOffer(
                        supplier=made[code],
                        sku=skus[item.code],
                        supplier_sku=f"{code[:3]}-{item.code}",
                        currency=currency,
                        price=(item.cost * (1 if rank == 1 else Decimal("1.18"))).quantize(Decimal("0.01")),
                        moq=moq,
                        order_multiple=case,
                        rank=rank,
                    )
                )
    SupplierOffer.objects.bulk_create(offers, batch_size=200)
    return made


def season(day: dt.date) -> float:
    """How strong a day sells: weekends, the run to Christmas, a quiet January."""
    month = {
        1: 0.7,
        2: 0.75,
        3: 0.85,
        4: 0.9,
        5: 1.0,
        6: 0.95,
        7: 0.9,
        8: 0.9,
        9: 1.0,
        10: 1.15,
        11: 1.6,
        12: 1.9,
    }[day.month]
    return month * {5: 1.15, 6: 1.2}.get(day.weekday(), 1.0)


def _history(
    rng: random.Random, catalogue: list[Item], skus: dict[str, Sku], orders: int, say: Callable[[str], None]
) -> None:
    """A year of shipped orders. They are facts of the past: no stock is moved for them."""
    today = business_day()
    days = [today - dt.timedelta(days=back) for back in range(365, 0, -1)]
    weights = [season(day) for day in days]
    zone = ZoneInfo("America/New_York")
    per_channel: dict[str, list[OrderDraft]] = {code: [] for code, *_ in CHANNELS}
    codes = [code for code, *_ in CHANNELS]
    shares = [share for *_, share, _w in CHANNELS]
    popularity = [item.popularity for item in catalogue]
    for number, day in enumerate(sorted(rng.choices(days, weights, k=orders)), start=1):
        code = rng.choices(codes, shares)[0]
        placed = dt.datetime.combine(
            day, dt.time(rng.randint(7, 22), rng.randint(0, 59), rng.randint(0, 59)), zone
        )
        chosen = {
            item.code: item
            for item in rng.choices(catalogue, popularity, k=rng.choices((1, 2, 3, 4), (60, 25, 10, 5))[0])
        }
        lines = []
        for position, item in enumerate(chosen.values(), start=1):
            quantity = rng.choices((1, 2, 3, 6), (78, 15, 5, 2))[0]
            lines.append(
                LineDraft(
                    external_id=str(position),
                    quantity=quantity,
                    shipped=quantity,
                    sku_id=skus[item.code].pk,
                    external_sku=item.code,
                    title=item.title,
                    unit_price=item.price,
                )
            )
        subtotal = sum((line.unit_price * line.quantity for line in lines), Decimal(0))
        shipping = Decimal("0.00") if subtotal > 60 else Decimal("5.90")
        city, region, postal = rng.choice(PLACES)
        delivered = day < today - dt.timedelta(days=6)
        per_channel[code].append(
            OrderDraft(
                external_id=f"H{number:06d}",
                external_number=f"{number + 1000}",
                placed_at=placed,
                channel_updated_at=placed,
                currency="USD",
                lines=tuple(lines),
                shipping=shipping,
                total=subtotal + shipping,
                status="delivered" if delivered else "shipped",
                contact=ContactDraft(
                    name=f"{rng.choice(_FIRST)} {rng.choice(_LAST)}",
                    address1=f"{rng.randint(1, 990)} {rng.choice(_LAST)} Street",
                    city=city,
                    region=region,
                    postal_code=postal,
                    country="US",
                ),
            )
        )
    for code, drafts in per_channel.items():
        channel = SalesChannel.objects.get(code=code)
        for start in range(0, len(drafts), 100):
            intake.take(drafts[start : start + 100], channel=channel, actor=ACTOR, source="csv")
    while pii.erase(limit=500) == 500:  # buyers of old Amazon orders are nobody's business any more
        pass
    say(f"{Order.objects.count()} orders of the last year")


def _opening_stock(
    rng: random.Random, catalogue: list[Item], skus: dict[str, Sku], places: dict[str, Warehouse]
) -> None:
    """Stock in proportion to what sells; a few SKUs nearly out, a few dead, some damaged or in quarantine."""
    movements = []

    def add(item: Item, place: str, bucket: str, quantity: int) -> None:
        if quantity > 0:
            movements.append(
                Movement(
                    sku_id=skus[item.code].pk,
                    warehouse_id=places[place].pk,
                    bucket=bucket,
                    quantity=quantity,
                    kind=StockMovement.Kind.OPENING,
                    key=f"demo:{item.code}:{place}:{bucket}",
                    reference="opening",
                    reason="demo",
                    unit_cost=item.cost if bucket == "on_hand" else None,
                )
            )

    for index, item in enumerate(catalogue):
        if item.parts:
            continue
        base = max(2, round(item.popularity * 26 * rng.uniform(0.5, 1.6)))
        if index % 23 == 7:
            base = rng.randint(0, 3)
        east, west = math.ceil(base * 0.5), round(base * 0.3)
        add(item, "EAST", "on_hand", east)
        add(item, "WEST", "on_hand", west)
        add(item, "OHIO", "on_hand", round(base * 0.25))
        if index % 31 == 3 and east > 2:
            add(item, "EAST", "damaged", 1)
        if index % 37 == 5 and west > 2:
            add(item, "WEST", "quarantine", 1)
    for start in range(0, len(movements), 500):
        with transaction.atomic():
            post_movements(movements[start : start + 500], actor=ACTOR)
    StockLevel.objects.filter(warehouse=places["EAST"], on_hand__gt=20).update(safety=1)


def _purchasing(
    rng: random.Random, skus: dict[str, Sku], places: dict[str, Warehouse], suppliers: dict[str, Supplier]
) -> None:
    """Received orders of the past give measured lead times; some are on their way, one is late, one is a draft."""
    moment = now()
    for supplier in suppliers.values():
        offers = list(SupplierOffer.objects.filter(supplier=supplier).select_related("sku").order_by("pk"))
        for back in range(6):
            picked = rng.sample(offers, k=min(3, len(offers)))
            order = _order(supplier, places["EAST"], picked)
            landed.add_charge(
                order.pk, kind="freight", basis="weight", amount=Decimal(rng.randint(40, 160)), actor=ACTOR
            )
            purchase_orders.approve(order.pk, actor=ACTOR)
            purchase_orders.send(order.pk, actor=ACTOR)
            lines = list(order.lines.all())
            damaged = 1 if rng.random() < 0.3 else 0
            receiving.receive(
                order.pk,
                [receiving.Arrived(line.pk, line.quantity - damaged, damaged) for line in lines],
                actor=ACTOR,
                key=f"demo:{order.pk}",
            )
            sent = moment - dt.timedelta(days=340 - back * 50)
            took = max(3, round(rng.gauss(supplier.lead_time_days * 1.1, supplier.lead_time_days * 0.15)))
            PurchaseOrder.objects.filter(pk=order.pk).update(
                sent_at=sent,
                ordered_on=sent.date(),
                created_at=sent,
                expected_on=(sent + dt.timedelta(days=supplier.lead_time_days)).date(),
            )
            Receipt.objects.filter(order=order).update(received_at=sent + dt.timedelta(days=took))
        order = _order(supplier, places["EAST"], rng.sample(offers, k=min(4, len(offers))))
        purchase_orders.approve(order.pk, actor=ACTOR)
        if supplier.code != "BACKBAY":
            purchase_orders.send(order.pk, actor=ACTOR)
            late = supplier.code in ("TWOTHREAD", "BATHMILL")
            due = business_day() + dt.timedelta(days=-4 if late else rng.randint(3, 20))
            PurchaseOrder.objects.filter(pk=order.pk).update(
                expected_on=due, sent_at=moment - dt.timedelta(days=supplier.lead_time_days)
            )


def _order(supplier: Supplier, warehouse: Warehouse, offers: list[SupplierOffer]) -> PurchaseOrder:
    return purchase_orders.create(
        supplier_id=supplier.pk,
        warehouse_id=warehouse.pk,
        actor=ACTOR,
        lines=[
            purchase_orders.LineSpec(offer.sku_id, max(offer.moq, offer.order_multiple)) for offer in offers
        ],
    )
