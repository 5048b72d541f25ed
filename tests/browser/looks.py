"""What every page must be, whatever it shows: accessible in both colour schemes, and never wider than the screen."""

from __future__ import annotations

import os
from pathlib import Path

import axe_playwright_python
from playwright.sync_api import Page

from scripts.walk import settle

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
#: everything of WCAG 2.2 A and AA that axe knows, and its best practices; the colours again in dark, where they are
#: others. Swagger's own widgets are not ours to mend.
RUN = """async ([where, rules]) => {
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
  const only = rules ? {type: 'rule', values: rules} : {type: 'tag', values: tags};
  const part = {include: [where], exclude: ['.swagger-ui']};
  const found = await axe.run(part, {resultTypes: ['violations'], runOnly: only});
  return found.violations.filter(one => ['serious', 'critical'].includes(one.impact)).map(one =>
    one.id + ': ' + one.help + ' ' + one.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(' | '));
}"""
#: cells of the body that say nothing at all: none is written "–". The cell of a box to tick may be without one.
SILENT = """[...document.querySelectorAll('tbody td, tbody th, dl dd')].filter(one => !one.textContent.trim()
  && !one.matches('td.tight:first-child')
  && !one.querySelector('input, button, select, textarea, svg, img, a, progress')
).slice(0, 5).map(one => one.outerHTML.slice(0, 120))"""
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
#: a folder for pictures of the way, for whoever wants to look at them
PICTURES = os.environ.get("OMS_PICTURES", "")


def findings(page: Page, where: str = "html", rules: list[str] | None = None) -> list[str]:
    """What axe finds serious or critical in a part of the page."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found: list[str] = page.evaluate(RUN, [where, rules])
    return found


def troubles(page: Page, name: str = "") -> list[str]:
    """What is wrong with the open page as it stands: axe in light, its colours in dark, cells without a
    word, sideways at 390 and 320 px."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found = findings(page)
    found += [f"empty cell: {one}" for one in page.evaluate(SILENT)]
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found += [f"dark {one}" for one in findings(page, rules=["color-contrast"])]
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        wide = page.evaluate(SIDEWAYS)
        if wide > 0:
            found.append(f"{wide} px wider than {width} px")
        if width == 390:
            _shoot(page, name, width)
    page.set_viewport_size({"width": 1440, "height": 900})
    _shoot(page, name, 1440)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    return found


def _shoot(page: Page, name: str, width: int) -> None:
    if PICTURES and name:
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.screenshot(path=f"{PICTURES}/{name}-{width}-{scheme}.png", full_page=True)


def look(page: Page, name: str) -> None:
    """The page that stands open after a step, and what it loads after itself, holds to all of it."""
    settle(page)
    found = troubles(page, name)
    assert found == [], f"{name}: {page.url} {found}"
