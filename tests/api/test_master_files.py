"""Products, SKUs and aliases brought in as CSV over HTTP: looked at first, whole or not at all, twice is once (X03)."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from inventory.models import Product, Sku, SkuAlias
from oms.core import masterfiles, tokens
from oms.core.actor import SYSTEM
from oms.core.models import AuditEntry
from oms.core.roles import SCOPES
from tests.factories import make_sku, make_user

pytestmark = pytest.mark.django_db
URL = "/api/v1/products/import-file/"
HEAD = "code,title,kind,weight_g,price,currency,is_active\n"


@pytest.fixture
def api() -> APIClient:
    api = APIClient()
    _, text = tokens.issue(make_user("olga"), "test", sorted(SCOPES), actor=SYSTEM)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return api


def load(api: APIClient, content: str, kind: str = "skus", **more: Any) -> Any:
    return api.post(URL, {"kind": kind, "content": content, **more})


def test_a_file_of_skus_is_looked_at_taken_and_changes_nothing_twice(api: APIClient) -> None:
    make_sku("MUG", weight_g=300)
    content = f"{HEAD}MUG,Mug,stock,350,12.50,USD,1\nJUG,Jug,stock,900,30.00,USD,1\n"
    looked = load(api, content, dry_run=True)
    assert looked.json() == {"rows": 2, "new": 1, "changed": 1, "unchanged": 0, "wrong": []}, looked.content
    assert not Sku.objects.filter(code="JUG").exists() and Product.objects.count() == 1
    done = load(api, content)
    assert (done.status_code, done.json()["new"], done.json()["changed"]) == (200, 1, 1)
    jug = Sku.objects.get(code="JUG")
    assert (jug.weight_g, jug.product.title, str(jug.price)) == (900, "Jug", "30.0000")
    assert Sku.objects.get(code="MUG").weight_g == 350
    entry = AuditEntry.objects.get(action="admin.imported")
    assert (entry.after, entry.actor[:6]) == ({"model": "inventory.sku", "new": 1, "update": 1}, "token:")
    again = load(api, content).json()
    assert (again["new"], again["changed"], again["unchanged"]) == (0, 0, 2)


def test_one_wrong_row_keeps_all_out_and_is_pointed_at(api: APIClient) -> None:
    make_sku("MUG")
    SkuAlias.objects.create(sku=Sku.objects.get(), value="0042")
    rows = ["JUG,Jug,stock,900,30,USD,1", "POT,Pot,stock,heavy,1,USD,1"]
    rows += ["0042,Old,stock,1,1,USD,1", "mug,M,stock,1,1,USD,1"]
    content = HEAD + "\n".join(rows)
    looked = load(api, content, dry_run=True)
    assert looked.status_code == 200
    assert [(one["row"], one["column"]) for one in looked.json()["wrong"]] == [
        (3, "weight_g"), (4, "code"), (5, "code"),
    ]  # fmt: skip
    answer = load(api, content)
    assert answer.status_code == 400
    assert answer.json()["errors"][0] == {
        "pointer": "/content/3/weight_g", "code": "row",
        "message": "'heavy' is not a whole number; write it like 12.",
    }  # fmt: skip
    assert "already finds MUG" in answer.json()["errors"][1]["message"]
    assert list(Sku.objects.values_list("code", flat=True)) == ["MUG"]
    assert not AuditEntry.objects.filter(action="admin.imported").exists()


def test_products_and_aliases_have_files_of_their_own(api: APIClient) -> None:
    known = make_sku("MUG").product
    made = load(api, f"id,title,brand\n{known.pk},Better mug,Anchor\n,Jug,Anchor\n", "products")
    assert (made.json()["new"], made.json()["changed"]) == (1, 1), made.content
    assert set(Product.objects.values_list("title", "brand")) == {("Better mug", "Anchor"), ("Jug", "Anchor")}
    assert load(api, "value,kind,sku\n4006381333931,gtin,MUG\n", "aliases").json()["new"] == 1
    assert SkuAlias.objects.get().sku.code == "MUG"
    wrong = load(api, "value,kind,sku\n77,code,NOPE\n", "aliases")
    assert wrong.status_code == 400 and wrong.json()["errors"][0]["pointer"] == "/content/2/sku"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("code,colour\nA,red\n", "unknown column 'colour'; use code, product, title"),
        ("title\nJug\n", "the column 'code' is missing"),
        ("code,title,title\nA,b,c\n", "stands there twice"),
        ("code,title\n", "give 1 to 2,000 rows"),
        ("code,title\nA\n", "line 2 has 1 cells, the header has 2"),
        ("code\n" + "A\n" * (masterfiles.MOST_ROWS + 1), "give 1 to 2,000 rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_words(api: APIClient, content: str, words: str) -> None:
    answer = load(api, content)
    assert answer.status_code == 400 and words in answer.json()["detail"], answer.content
    assert answer.json()["errors"][0]["pointer"] == "/content"


def test_a_cell_that_a_spreadsheet_made_safe_is_taken_back(api: APIClient) -> None:
    load(api, f"{HEAD}JUG,'=1+1,stock,900,30.00,USD,1\n")
    assert Sku.objects.get().title == "=1+1"


def test_who_may_not_edit_products_brings_no_file() -> None:
    api = APIClient()
    _, text = tokens.issue(make_user("vera", "viewer"), "test", ["products:read"], actor=SYSTEM)
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    assert load(api, HEAD).status_code == 403
