"""A logged-in page in a real browser. A console error, and so any breach of the content policy, fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from oms.core.models import Membership, User

PASSWORD = "a-long-password-9"
expect.set_options(timeout=15_000)  # a busy machine is slow, not wrong


@pytest.fixture(autouse=True)
def console(page: Page) -> Iterator[list[str]]:
    problems: list[str] = []
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield problems
    assert problems == [], f"the console of {page.url} is not clean"


@pytest.fixture
def owner(transactional_db: None) -> User:
    user = User.objects.create_user("owner", password=PASSWORD)
    Membership.objects.create(user=user, role="owner")
    return user


@pytest.fixture
def log_in(live_server: Any, context: BrowserContext, client: Any) -> Callable[[User], None]:
    """Put the user's session into the browser."""

    def use(user: User) -> None:
        client.force_login(user)
        cookie = client.cookies["sessionid"]
        context.add_cookies([{"name": "sessionid", "value": cookie.value, "url": live_server.url}])

    return use


@pytest.fixture
def fits() -> Callable[[Page], None]:
    """The page itself never scrolls sideways."""

    def check(page: Page) -> None:
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{page.url} is {wide} px wider than the screen"

    return check
