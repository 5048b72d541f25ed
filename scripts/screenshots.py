"""Pictures of every screen of a fresh demo, wide and narrow, light and dark, in var/screenshots (or the folder given).

Starts `manage.py demo` on its own data and ports, or uses the demo that answers at OMS_SHOTS_BASE. Ends with 1 when a
page answers with an error, scrolls sideways or makes the browser's console complain. With --readme only the few
compact pictures of README.md are taken, into docs/images.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import django
from playwright.sync_api import Page, sync_playwright

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "oms.settings")
django.setup()

from oms.control.demo.seed import PASSWORD  # noqa: E402 - after the set-up
from scripts.walk import settle, walk  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = os.environ.get("OMS_CHROMIUM", "/usr/bin/chromium")
PORT, SANDBOX_PORT = 8990, 8991
WIDTHS = (1440, 390)
SCHEMES = ("light", "dark")
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def start(home: str) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "manage.py", "demo"),
        *("--port", str(PORT), "--sandbox-port", str(SANDBOX_PORT), "--orders", "500"),
    ]
    demo = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMS_HOME": home})  # noqa: S603 our own manage.py
    until = time.monotonic() + 600
    while time.monotonic() < until and demo.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz", timeout=2).close()
            return demo
        except OSError:
            time.sleep(1)
    demo.terminate()
    raise SystemExit("the demo did not start")


def stop(demo: subprocess.Popen[bytes]) -> None:
    demo.send_signal(signal.SIGTERM)
    demo.wait(60)


def shoot(page: Page, target: Path, name: str) -> list[str]:
    """Four pictures of the open page; what is wrong with it."""
    troubles = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900 if width > 800 else 844})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=target / f"{name}-{width}-{scheme}.png", full_page=True)
        wide = page.evaluate(SIDEWAYS)
        if wide > 0:
            troubles.append(f"{page.url}: {wide} px wider than a screen of {width} px")
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    return troubles


def readme(page: Page, base: str) -> list[str]:
    """The pictures of README.md, each what a new user sees in the first ten minutes."""
    target = ROOT / "docs" / "images"
    target.mkdir(parents=True, exist_ok=True)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.emulate_media(color_scheme="light")
    for name, path, opened in (
        ("today", "/", ""),
        ("order", "/orders/?tab=ship", "main table a[href*='/orders/']"),
        ("sku", "/stock/?q=MUG-ANC", "main table a[href^='/stock/MUG-ANC-BLU']"),
        ("channels", "/channels/", ""),
    ):
        page.goto(base + path)
        if opened:
            page.locator(opened).first.click()
            page.wait_for_load_state()
        settle(page)
        page.screenshot(path=target / f"{name}.png")
    big = [one.name for one in target.glob("*.png") if one.stat().st_size > 150_000]
    return [f"docs/images/{name} is larger than 150 kB" for name in big]


def main() -> int:
    few = sys.argv[1:2] == ["--readme"]
    target = Path(sys.argv[1]) if len(sys.argv) > 1 and not few else ROOT / "var" / "screenshots"
    target.mkdir(parents=True, exist_ok=True)
    base = os.environ.get("OMS_SHOTS_BASE", "")
    troubles: list[str] = []
    count = 0
    with ExitStack() as stack:
        if not base:
            base = f"http://127.0.0.1:{PORT}"
            stack.callback(stop, start(stack.enter_context(tempfile.TemporaryDirectory())))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        page = browser.new_page(
            viewport={"width": WIDTHS[0], "height": 900}, device_scale_factor=0.75 if few else 1
        )
        page.on("console", lambda m: troubles.append(f"{page.url}: {m.text}") if m.type == "error" else None)
        page.goto(f"{base}/login/")
        if not few:
            troubles += shoot(page, target, "login")
        page.fill("input[name=username]", "omar" if few else "ana")
        page.fill("input[name=password]", PASSWORD)
        page.click("main form button")
        page.wait_for_url(f"{base}/")
        if few:
            troubles += readme(page, base)
        for one in () if few else walk(page, base):
            if one.answer is None or one.answer.status >= 400:
                troubles.append(f"{one.path}: {one.answer.status if one.answer else 'no answer'}")
            settle(page)
            troubles += shoot(page, target, re.sub(r"[^a-z0-9_]+", "-", one.name.lower()).strip("-"))
            count += 1
        browser.close()
    print("docs/images is new" if few else f"{count} screens in {target}")
    for trouble in troubles:
        print(f"TROUBLE {trouble}", file=sys.stderr)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
