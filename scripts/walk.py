"""Walks the screens of a running installation in a browser: every named screen that a link leads to, and its tabs.

Used by the pictures (scripts/screenshots.py) and by the browser tests that look at every page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urljoin, urlsplit

from django.urls import Resolver404, resolve
from playwright.sync_api import Error, Page, Response

#: leave the session, hand out a file, belong to somebody else (the stock admin), or are a part of a page
SKIP = ("logout", "admin:", "schema", "fulfillment:label", "fulfillment:slip")
FRAGMENTS = ("panel", "sku_stock")
#: screens whose objects look different from state to state: so many of them
SEVERAL = {
    "orders:detail": 3, "fulfillment:shipment": 3, "procurement:order": 3, "returns:detail": 2, "channels:detail": 2,
}  # fmt: skip
#: no link leads there
ALSO = ("/search/?q=mug", "/profile/two-factor/")
MOST = 200
#: what a page fetches after itself has come: panels, and the operations of the interface's reference
LOADED = """() => !document.querySelector('.htmx-request')
  && (!document.querySelector('#swagger-ui') || document.querySelector('#swagger-ui .opblock-tag'))"""


@dataclass(frozen=True)
class Stop:
    """One page of the walk; `name` is its view's name with the tab, such as `inventory:sku.ledger`."""

    name: str
    path: str
    answer: Response | None


def settle(page: Page) -> None:
    """Wait until the open page shows what it fetches after itself."""
    page.wait_for_function(LOADED)


def _known(base: str, url: str) -> tuple[str, str] | None:
    """(view name with its tab, path with query) of a screen of ours; None for everything else."""
    parts = urlsplit(url)
    if not url.startswith(base) or "format=csv" in parts.query or "." in parts.path.rsplit("/", 1)[-1]:
        return None
    try:
        name = resolve(parts.path).view_name
    except Resolver404:
        return None
    if not name or name.startswith(SKIP) or name.endswith(FRAGMENTS):
        return None
    query = parse_qs(parts.query)
    tab = next((query[key][0] for key in ("tab", "view") if query.get(key)), "")
    return f"{name}.{tab}" if tab else name, parts.path + (f"?{parts.query}" if tab or "q" in query else "")


def walk(page: Page, base: str, *, once: bool = False) -> Iterator[Stop]:
    """Open the screens one after the other; the caller looks at `page` between two stops.

    `once`: each screen one time, whatever its tabs and states.
    """
    todo, seen = ["/", *ALSO], Counter[str]()
    done: set[str] = set()
    while todo and len(done) < MOST:
        target = urljoin(base, todo.pop(0))
        known = _known(base, target)
        if known is None or known[1] in done:
            continue
        name, path = known
        if once:
            name = name.partition(".")[0]
        if seen[name] >= (1 if once else SEVERAL.get(name, 1)):
            continue
        seen[name] += 1
        done.add(path)
        try:
            answer = page.goto(base + path)
        except Error as error:
            if "Download is starting" in error.message:
                continue  # a file after all
            raise
        found = page.eval_on_selector_all("a[href]", "all => all.map(one => one.href)")
        number = f".{seen[name]}" if seen[name] > 1 else ""
        yield Stop(name + number, path, answer)
        todo += [url for url in found if url.startswith(base)]
