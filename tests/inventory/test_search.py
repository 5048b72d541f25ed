"""The text that a search looks at follows code and titles, whoever writes them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from inventory import screens, selectors
from inventory.models import Product, Sku, SkuAlias
from tests.factories import add_stock, make_sku, make_warehouse

pytestmark = pytest.mark.django_db


def codes(query: str) -> list[str]:
    return list(screens.find_skus(query, "", []).order_by("place").values_list("code", flat=True))


def test_the_text_follows_every_writer() -> None:
    product = Product.objects.create(title="Harbour mug")
    [made] = Sku.objects.bulk_create([Sku(product=product, code="mug-blu", title="Blue")])
    assert codes("MUG") == codes("harbour") == codes("blu") == ["mug-blu"]
    Sku.objects.filter(pk=made.pk).update(title="Navy")
    assert codes("navy") == ["mug-blu"] and codes("harbour mug") == ["mug-blu"]
    product.title = "Pine cup"
    product.save()
    assert codes("pine") == ["mug-blu"] and codes("harbour") == []
    sku = Sku.objects.get(pk=made.pk)
    product.title = "Oak cup"
    product.save()
    sku.code = "cup-blu"
    sku.save()  # with the text as it was before
    assert codes("oak cup") == ["cup-blu"] and codes("pine") == []
    other = Product.objects.create(title="Elm bowl")
    Sku.objects.filter(pk=made.pk).update(product=other)
    assert codes("elm") == ["cup-blu"] and codes("oak") == []


def test_short_texts_are_found_at_the_beginning_of_code_and_titles() -> None:
    make_sku("AB-1", title="Granite bowl")
    make_sku("GR-2", title="Plate")
    make_sku("XGR-3", title="Tray")
    assert codes("gr") == ["AB-1", "GR-2"]
    assert codes("xgr") == ["XGR-3"] and codes("_gr") == codes("%") == []


def test_a_common_text_gives_the_same_pages_as_a_rare_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        make_sku(f"M-{number}", title="Mug")
    rare = codes("mug")
    monkeypatch.setattr(screens, "OFTEN", 3)
    assert codes("mug") == rare == [f"M-{number}" for number in range(7)]


def test_an_alias_is_found_beside_the_text() -> None:
    sku = make_sku("CAP")
    make_sku("AB-4006", title="4006000000017 written in a title")
    SkuAlias.objects.create(sku=sku, kind=SkuAlias.Kind.GTIN, value="4006000000017")
    assert codes("4006000000017") == ["AB-4006", "CAP"]


def test_out_of_stock_means_sellable_nowhere_of_these() -> None:
    east, west = make_warehouse("EAST"), make_warehouse("WEST")
    some, none, gone = make_sku("SOME"), make_sku("NONE"), make_sku("GONE")
    add_stock(some, west, 3)
    add_stock(gone, east, 3)

    def out(*places: Any) -> list[str]:
        found = screens.find_skus("", "out", [place.pk for place in places])
        return list(found.order_by("place").values_list("code", flat=True))

    assert out(east, west) == ["NONE"]
    assert out(east) == ["NONE", "SOME"] and out(west) == ["GONE", "NONE"]
    assert none.pk  # a SKU without any level is out as well


@pytest.mark.postgres
def test_a_rare_text_is_asked_of_its_index() -> None:
    make_sku("MUG")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_indexes WHERE indexname = 'sku_search_trgm_idx'")
        if cursor.fetchone() is None:
            pytest.skip("this server has no pg_trgm")
        cursor.execute("SET LOCAL enable_seqscan = off")
        wanted = Sku.objects.filter(selectors.found_by("thistle bas")).order_by()
        assert "sku_search_trgm_idx" in wanted.explain()
