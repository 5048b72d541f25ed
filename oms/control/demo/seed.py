"""Build the demo brand through the same services as real data: users, places, goods, suppliers, a year of sales."""

from __future__ import annotations

import datetime as dt
import math
import random
from collections.abc import Callable
from decimal import Decimal

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
from oms.control.demo import floor
from oms.control.demo import history as year
from oms.control.demo.catalogue import SUPPLIERS, Item, items
from oms.control.kpis import rollup
from oms.core import business
from oms.core.actor import Actor
from oms.core.clock import business_day, now
from oms.core.models import Membership, MembershipScope, User
from oms.orders import demand, supply
from oms.orders.models import ChannelWarehouse, SalesChannel
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
        floor.name_cases(list(items()), skus)
    say(f"{len(skus)} SKUs, {len(places)} warehouses, {len(CHANNELS)} channels")
    catalogue = list(items())
    shares = {code: (share, warehouses) for code, _, _, _, share, warehouses in CHANNELS}
    year.write(
        rng, catalogue, skus, places, shares, _levels(rng, catalogue, skus, places), history, say,
        names=(_FIRST, _LAST), cities=PLACES,
    )  # fmt: skip
    _unfit_stock(catalogue, skus, places)
    _purchasing(rng, skus, places, suppliers)
    floor.furnish(catalogue, skus, places, actor=ACTOR)
    say("bins, lots and open work in East")
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
    while not rollup.refresh(older=0, most=400):
        pass
    say("key figures counted")
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
        if code == "shopify-us":  # Amazon ships what lies nowhere else (MCF)
            ChannelWarehouse.objects.create(
                channel=channel, warehouse=places["FBA-US"], rank=9, publishes=False
            )
    manual = SalesChannel.objects.create(
        code="phone", name="Phone and files", kind="manual", prefix="PH", time_zone="America/New_York"
    )
    for rank, place in enumerate(("EAST", "WEST", "FBA-US"), start=1):
        ChannelWarehouse.objects.create(
            channel=manual, warehouse=places[place], rank=rank, publishes=place != "FBA-US"
        )


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


def _levels(
    rng: random.Random, catalogue: list[Item], skus: dict[str, Sku], places: dict[str, Warehouse]
) -> dict[tuple[int, int], int]:
    """What every level holds today, in proportion to what sells; a few SKUs are nearly out."""
    found: dict[tuple[int, int], int] = {}
    for index, item in enumerate(catalogue):
        if item.parts:
            continue
        base = max(2, round(item.popularity * 26 * rng.uniform(0.5, 1.6)))
        if index % 23 == 7:
            base = rng.randint(0, 3)
        for place, units in (
            ("EAST", math.ceil(base * 0.5)),
            ("WEST", round(base * 0.3)),
            ("OHIO", round(base * 0.25)),
        ):
            found[skus[item.code].pk, places[place].pk] = units
    return found


def _unfit_stock(catalogue: list[Item], skus: dict[str, Sku], places: dict[str, Warehouse]) -> None:
    """Some units lie damaged or in quarantine; a few levels keep one back from every channel."""
    moves = []
    free = {
        (level.sku_id, level.warehouse_id): level.available
        for level in StockLevel.objects.filter(warehouse__code__in=("EAST", "WEST"))
    }
    for index, item in enumerate(catalogue):
        for place, bucket, chosen in (
            ("EAST", "damaged", index % 31 == 3),
            ("WEST", "quarantine", index % 37 == 5),
        ):
            pair = (skus[item.code].pk, places[place].pk)
            if chosen and not item.parts and free.get(pair, 0) > 2:
                key = f"demo:{item.code}:{place}:{bucket}"
                moves.append(
                    Movement(
                        *pair,
                        bucket,
                        1,
                        StockMovement.Kind.STATE,
                        key,
                        reason="damaged on the shelf" if bucket == "damaged" else "to be looked at",
                    )
                )
    with transaction.atomic():
        post_movements(moves, actor=ACTOR)
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
                ordered_on=business_day(sent),
                created_at=sent,
                expected_on=business_day(sent + dt.timedelta(days=supplier.lead_time_days)),
            )
            Receipt.objects.filter(order=order).update(received_at=sent + dt.timedelta(days=took))
        order = _order(supplier, places["EAST"], rng.sample(offers, k=min(4, len(offers))))
        purchase_orders.approve(order.pk, actor=ACTOR)
        if supplier.code != "BACKBAY":
            purchase_orders.send(order.pk, actor=ACTOR)
            late = supplier.code in ("TWOTHREAD", "BATHMILL")
            due = business_day() + dt.timedelta(days=-4 if late else rng.randint(3, 20))
            sent = moment - dt.timedelta(days=supplier.lead_time_days)
            PurchaseOrder.objects.filter(pk=order.pk).update(
                expected_on=due, sent_at=sent, ordered_on=business_day(sent), created_at=sent
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
