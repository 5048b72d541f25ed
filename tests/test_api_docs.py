"""The API documentation page works under the strict content security policy."""

from __future__ import annotations

import time
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from scripts.walk import settle


@pytest.mark.django_db(transaction=True)
def test_swagger_renders_without_a_single_refused_resource(page: Page, live_server: Any) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    answer = page.goto(f"{live_server.url}/api/docs/")
    assert answer is not None and answer.status == 200
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    expect(page.get_by_role("heading", name="Lading API")).to_be_visible(timeout=30_000)
    assert complaints == []


@pytest.mark.django_db(transaction=True)
def test_pictures_of_it_wait_until_it_is_there(page: Page, live_server: Any) -> None:
    def slowly(route: Route) -> None:
        time.sleep(1)
        route.continue_()

    page.route("**/api/schema/**", slowly)
    page.goto(f"{live_server.url}/api/docs/")
    settle(page)
    assert page.locator(".opblock-tag").count()
    assert page.locator(".loading-container .loading").count() == 0
