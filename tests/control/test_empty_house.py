"""A house in which nothing has happened yet: every empty list says what to do next, and leads only where one may go."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from oms.core.roles import ROLES
from tests.factories import make_user

pytestmark = pytest.mark.django_db

EMPTY = (
    "/orders/", "/orders/fences/", "/orders/waiting/", "/shipments/", "/floor/", "/returns/", "/returns/bench/",
    "/threepl/", "/stock/", "/stock/counts/", "/stock/counts/?tab=review", "/stock/counts/?tab=done", "/stock/bins/",
    "/stock/lots/", "/stock/serials/", "/stock/put-away/", "/stock/pools/", "/stock/differences/",
    "/stock/differences/?tab=closed", "/stock/transfers/", "/stock/approvals/", "/channels/", "/channels/stock/",
    "/purchasing/orders/", "/purchasing/suppliers/", "/purchasing/reorder/", "/exceptions/", "/exceptions/?tab=mine",
    "/exceptions/?tab=free", "/exceptions/?tab=snoozed", "/exceptions/?tab=closed", "/jobs/", "/jobs/?state=failed",
    "/imports/", "/exports/", "/settings/warehouses/", "/settings/carriers/", "/settings/tokens/",
    "/settings/webhooks/",
)  # fmt: skip
STATE = re.compile(
    r'<div class="empty">.*?<h2>(?P<title>.+?)</h2>\s*<p>(?P<text>.+?)</p>(?P<rest>.*?)</div>', re.S
)


@pytest.mark.parametrize("role", ROLES)
def test_every_empty_list_says_what_is_next(client: Client, role: str) -> None:
    client.force_login(make_user("someone", role))
    seen = 0
    for path in EMPTY:
        answer = client.get(path)
        if answer.status_code == 403:
            continue
        assert answer.status_code == 200, path
        found = STATE.search(answer.content.decode())
        assert found is not None, f"{path} is empty and does not say so"
        assert len(found["text"]) > 40, (path, found["text"])
        for url in re.findall(r'href="([^"]+)"', found["rest"]):
            target = path.partition("?")[0] if url.startswith("?") else url
            assert client.get(target).status_code in (200, 302), (
                f"{path} leads to {url}, which {role} may not open"
            )
        seen += 1
    assert seen == len(EMPTY) if role == "owner" else seen > 5
