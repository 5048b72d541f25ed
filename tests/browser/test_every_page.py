"""Every screen that a link leads to: axe-core finds nothing serious in light and dark, nothing scrolls sideways at
390 and 320 px, the console is clean, and no screen is left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page

from oms.core.models import User
from scripts.walk import FRAGMENTS, SKIP, settle, walk
from tests.access.test_matrix import SCREENS
from tests.browser import looks
from tests.browser.house import furnish
from tests.browser.looks import findings
from tests.fulfillment.conftest import World
from tests.fulfillment.conftest import carrier as carrier
from tests.fulfillment.conftest import world as world

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

OPEN = """id => { const one = document.getElementById(id); one.open ? one.close() : one.showModal(); }"""

#: screens that no link of the furnished house leads to, and why
ELSEWHERE = {
    "control:import-template": "a file",
    "inventory:evidence": "a file",
    "inventory:evidence-file": "a file",
    "control:export-file": "a file",
    "inventory:serial": "only units with a serial number have it: tests/browser/test_stock_proof.py",
    "fulfillment:rule": "only a house that has made a rule has it: tests/browser/test_order_work.py",
    "inventory:export": "a file",
    "fulfillment:invoice": "a file",
    "threepl:file": "a file",
    "control:import-errors": "a file",
    "control:import-preview": "a file",
    "control:report-csv": "a file",
    "procurement:sku_stock": "a part of the SKU page",
    "channels:oversell": "only an order that was sold twice leads there: tests/channels",
    "channels:mapping": "only a channel that is mapped by hand has it: tests/channels/test_custom.py",
    "channels:files": "only a channel that exchanges files has it: tests/channels/test_file_screens.py",
    "channels:layout": "only a channel that exchanges files has it: tests/channels/test_file_screens.py",
    "channels:file-errors": "a file",
    "channels:buffer": "a table cell: tests/browser/test_work.py",
    "control:import-match": "only a file of unknown shape leads there: tests/control/test_import_screens.py",
}


def in_dialogs(page: Page, seen: set[str]) -> list[str]:
    """The same for every dialog of the page that no other page has shown yet."""
    found = []
    for name in page.eval_on_selector_all("dialog[id]", "all => all.map(one => one.id)"):
        kind = name.rstrip("0123456789")
        if kind not in seen:
            seen.add(kind)
            page.evaluate(OPEN, name)
            found += [f"dialog {name}: {one}" for one in findings(page, f"#{name}")]
            page.evaluate(OPEN, name)
    return found


def screens() -> set[str]:
    """Names of all addresses for people that answer a GET, read from the URL tables."""
    named = {one.name for one in SCREENS if "GET" in one.methods and not one.route.startswith("admin/")}
    return {name for name in named if not name.startswith(SKIP) and not name.endswith(FRAGMENTS)}


def test_every_page_is_accessible_narrow_and_quiet(
    page: Page, live_server: Any, owner: User, log_in: Callable[[User], None], world: World, carrier: Any
) -> None:
    furnish(world, owner)
    log_in(owner)
    troubles: list[str] = []
    seen: set[str] = set()
    dialogs: set[str] = set()
    started = time.monotonic()
    for stop in walk(page, live_server.url, once=True):
        seen.add(stop.name)
        if stop.answer is None or stop.answer.status != 200:
            troubles.append(f"{stop.path}: answered {stop.answer.status if stop.answer else 'nothing'}")
            continue
        settle(page)
        found = [f"{stop.path} {one}" for one in in_dialogs(page, dialogs)]
        troubles += [f"{stop.path} {one}" for one in looks.troubles(page)] + found
    print(f"{len(seen)} screens, {len(dialogs)} dialogs in {time.monotonic() - started:.0f} s")
    assert not troubles, "\n".join(troubles)
    assert screens() - seen - set(ELSEWHERE) == set(), (
        "no link leads there, or it is named in ELSEWHERE with a reason"
    )
