"""Every screen of the demo, opened again and again: where a link of one leads, with its tabs and views."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from html import unescape
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.urls import Resolver404, resolve

from channels.sandbox.client import SandboxClient
from oms.control.benches.pages import NOTE, Pages, analyze, ask, browser, p95
from oms.control.benches.pages import environment as logged_in
from oms.control.benches.report import Report
from oms.control.benches.sync import free_port, process
from oms.control.demo import live, troubles
from oms.control.demo.seed import seed
from oms.core.models import User

#: end the session, hand out a file or belong to the stock admin
LEFT_OUT = ("logout", "admin:", "schema", "fulfillment:label", "fulfillment:slip")
MOST = 250
_LINK = re.compile(r'href="([^"#]+)')


def environment(options: dict[str, Any]) -> dict[str, str]:
    """A browser that logs in without a second factor, and a sandbox that plays the demo's channels."""
    return {
        **logged_in(options),
        "OMS_BASE_URL": f"http://127.0.0.1:{free_port()}",
        "OMS_HOST_MAP": json.dumps(live.host_map(f"http://127.0.0.1:{free_port()}")),
    }


def run(report: Report, options: dict[str, Any], say: Callable[[str], None]) -> None:
    """Each screen on the server, p95 under 100 ms."""
    history, rounds = (60, 1) if options["quick"] else (5_000, 10)
    seed(say, history=history)
    sandbox = "{0.scheme}://{0.netloc}".format(urlsplit(next(iter(settings.HOST_MAP.values()))))
    with contextlib.ExitStack() as stack:
        stack.enter_context(process("sandbox", "--port", str(urlsplit(sandbox).port), "--scenario", "empty"))
        stack.enter_context(SandboxClient(sandbox)).wait_ready(60)
        live.connect(sandbox, say)
        troubles.make(say)
        analyze()
        client = browser(User.objects.get(username="ana"))
        found = screens(client)
        say(f"{len(found)} screens, {rounds} times each")
        pages = Pages()
        for _ in range(rounds):
            for name, path in found.items():
                cache.clear()  # what is kept for 30 seconds is counted by everybody here
                pages.ask(client, name, path)
    report.size = {"screens": len(found), "rounds": rounds, "orders": history}
    slow = 0
    for name, asked in sorted(pages.found.items(), key=lambda one: -p95([two.ms for two in one[1]])):
        high = p95([one.ms for one in asked])
        slow += high > 100
        report.figures[name] = (
            f"{median(one.ms for one in asked):.0f} / {high:.0f} ms, {median(one.cpu_ms for one in asked):.0f} ms "
            f"processor, {max(one.statements for one in asked)} statements"
        )
    report.figures |= {
        "all_screens_p50_ms": median(pages.all("ms")),
        "all_screens_p95_ms": p95(pages.all("ms")),
        "all_screens_processor_p95_ms": p95(pages.all("cpu_ms")),
        "screens_over_100_ms": slow,
    }
    report.at_most(21, "slowest screen, p95", max(p95([one.ms for one in asked]) for asked in pages.found.values()),
                   100, 50, "ms")  # fmt: skip
    report.equal("screens found", len(found) > 60, True)
    report.notes += ["Each line: p50 / p95 from outside, processor time, statements.", NOTE]


def screens(client: Client) -> dict[str, str]:
    """Name (view, tab or view of a list) and address of every page that a chain of links reaches from Today."""
    todo, found, seen = ["/", "/search/?q=mug"], dict[str, str](), set[str]()
    while todo and len(found) < MOST:
        path = todo.pop(0)
        name = _name(path)
        if not name or name in found or path in seen:
            continue
        seen.add(path)
        one = ask(client, path)
        if one.answer.status_code != 200 or not one.answer.headers["Content-Type"].startswith("text/html"):
            continue  # a redirect or a file after all
        found[name] = path
        todo += [urljoin(path, unescape(link)) for link in _LINK.findall(one.answer.content.decode())]
    return found


def _name(path: str) -> str:
    """The view of a page with its tab, such as `inventory:sku.ledger`; empty for what is no page of ours."""
    parts = urlsplit(path)
    if parts.netloc or "format=csv" in parts.query or "." in parts.path.rsplit("/", 1)[-1]:
        return ""
    try:
        name = resolve(parts.path).view_name
    except Resolver404:
        return ""
    if not name or name.startswith(LEFT_OUT) or name.endswith("panel"):
        return ""
    query = parse_qs(parts.query)
    tab = next((query[key][0] for key in ("tab", "view") if query.get(key)), "")
    return f"{name}.{tab}" if tab else name
