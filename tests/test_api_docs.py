"""The API documentation page works under the strict content security policy."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect


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
