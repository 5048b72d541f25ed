"""The demo brand's floor has something on every screen of stock work, and its books agree."""

from __future__ import annotations

from inventory import putaway, scanning
from inventory.models import Bin, CountTask, Lot, RingFence, SerialUnit, SkuPack, Transfer
from oms.control.demo import floor, seed
from oms.control.demo.catalogue import items
from tests.factories import add_stock, make_channel


def test_the_demo_has_work_on_every_screen_of_stock(db, assert_invariants):
    listed = list(items())
    catalogue = [item for item in listed if item.code.startswith("CND-")][:4]
    catalogue = [item for item in listed if item.code.startswith("MUG-")][:12] + catalogue
    places = seed._warehouses()
    skus = seed._goods()
    east = places["EAST"]
    make_channel("amazon-us", east)
    for item in catalogue:
        add_stock(skus[item.code], east, 20, unit_cost=item.cost)
    floor.name_cases(catalogue, skus)
    floor.furnish(catalogue, skus, places, actor=seed.ACTOR)
    assert_invariants()
    zones = set(Bin.objects.filter(warehouse=east).values_list("zone", flat=True))
    assert zones == {"K", "A", "H", "DOCK", "BULK", "QUAR"}
    assert len(putaway.waiting([east.pk])) == floor.ON_DOCK
    assert Lot.objects.filter(bin_stock__quantity__gt=0, expires_on__isnull=False).distinct().count() == 9
    assert SerialUnit.objects.filter(warehouse=east, state="in_stock").count() == 6
    assert CountTask.objects.filter(state="open").count() == 3
    assert RingFence.objects.count() == 1
    line = Transfer.objects.get().lines.first()
    assert (line.shipped, line.received, line.open_units) == (4, 3, 1)
    pack = SkuPack.objects.select_related("sku").first()
    assert scanning.resolve(pack.barcode).units == pack.quantity == 12
