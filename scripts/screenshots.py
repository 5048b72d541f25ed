"""Pictures of every screen of a fresh demo, light and dark, in var/screenshots (or the directory given).

Starts `manage.py demo` on its own data and ports, logs in, walks the navigation and the first row of every list, and
exits 1 when a page answers with an error or a browser console complains.
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
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = os.environ.get("OMS_CHROMIUM", "/usr/bin/chromium")
PORT, SANDBOX_PORT = 8990, 8991
BASE = f"http://127.0.0.1:{PORT}"
MORE = ("/api/docs/", "/admin/", "/imports/", "/jobs/", "/audit/", "/profile/", "/settings/")


def password() -> str:
    """The demo's password, from the module that prints it."""
    found = re.search(r'^PASSWORD = "(.+?)"', (ROOT / "oms/control/demo/seed.py").read_text(), re.MULTILINE)
    assert found, "the demo's password has moved"
    return found[1]


def start(home: str) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "manage.py", "demo"),
        *("--port", str(PORT), "--sandbox-port", str(SANDBOX_PORT), "--orders", "500"),
    ]
    demo = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMS_HOME": home})  # noqa: S603 our own manage.py
    until = time.monotonic() + 600
    while time.monotonic() < until and demo.poll() is None:
        try:
            urllib.request.urlopen(f"{BASE}/healthz", timeout=2).close()  # noqa: S310 a fixed local address
            return demo
        except OSError:
            time.sleep(1)
    demo.terminate()
    raise SystemExit("the demo did not start")


def links(page: Page, within: str) -> list[str]:
    found = page.eval_on_selector_all(f"{within} a[href]", "all => all.map(one => one.getAttribute('href'))")
    full = [urljoin(page.url, href) for href in found]
    return [urlsplit(one).path for one in full if one.startswith(BASE) and "." not in urlsplit(one).path]


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "var" / "screenshots"
    target.mkdir(parents=True, exist_ok=True)
    troubles: list[str] = []
    with tempfile.TemporaryDirectory() as home:
        demo = start(home)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
                )
                page = browser.new_page(viewport={"width": 1360, "height": 850})
                page.on(
                    "console",
                    lambda m: troubles.append(f"{page.url}: {m.text}") if m.type == "error" else None,
                )
                page.goto(f"{BASE}/login/")
                page.fill("input[name=username]", "ana")
                page.fill("input[name=password]", password())
                page.click("main button[type=submit], main form button")
                page.wait_for_url(f"{BASE}/")
                todo = ["/", *links(page, "nav"), *MORE]
                done: set[str] = set()
                while todo:
                    path = todo.pop(0)
                    if path in done or path.startswith("/logout") or len(done) > 80:
                        continue
                    done.add(path)
                    answer = page.goto(BASE + path)
                    if answer is None or answer.status >= 400:
                        troubles.append(f"{path}: {answer.status if answer else 'no answer'}")
                    name = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-") or "today"
                    for scheme in ("light", "dark"):
                        page.emulate_media(color_scheme=scheme)
                        page.screenshot(path=target / f"{name}-{scheme}.png", full_page=True)
                    if not path.startswith(("/api/", "/admin/")):
                        todo += links(page, "main table")[:2] + links(page, "main nav")
                browser.close()
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.wait(60)
    print(f"{len(done)} screens in {target}")
    for trouble in troubles:
        print(f"TROUBLE {trouble}", file=sys.stderr)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
