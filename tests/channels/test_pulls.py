"""An order pull that is too long for one turn goes on in the next, and one without an end is told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from channels import pulls, tasks
from channels.connectors.base import ChannelError, OrderPage, Retry
from channels.models import ChannelAccount, Listing
from inventory.models import Sku
from oms.core.clock import now
from oms.core.models import Doorbell, ExceptionItem
from oms.orders.models import Order
from tests.factories import add_stock, line_draft, make_channel, make_sku, make_warehouse, order_draft

pytestmark = pytest.mark.django_db
PAGES = 7


@pytest.fixture
def account() -> ChannelAccount:
    warehouse = make_warehouse("EAST")
    add_stock(make_sku("MUG"), warehouse, 90)
    return ChannelAccount.objects.create(
        sales_channel=make_channel("acme", warehouse), connector="ebay", state="connected"
    )


class Remote:
    """A channel's list of orders, one order a page. `moves`: each page tells where the next pull may begin."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, moves: bool = False) -> None:
        self.moves, self.asked, self.fail, self.after = moves, [], {}, self.count  # type: ignore[var-annotated]
        monkeypatch.setattr(pulls, "MAX_PAGES", 2)
        monkeypatch.setattr(pulls.asking, "orders", lambda since, cursor: (since, cursor))
        monkeypatch.setattr(pulls, "do", self.answer)
        self.sku = Sku.objects.get()

    @staticmethod
    def count(number: int) -> str:
        return str(number + 1) if number + 1 < PAGES else ""

    def answer(self, account_id: int, asked: tuple[str, str]) -> OrderPage:
        since, cursor = asked
        self.asked.append(asked)
        if cursor in self.fail:
            raise ChannelError(self.fail.pop(cursor), "no")
        number = int(cursor or 0)
        if self.moves and not cursor and since > "2026-11-20":
            number = int(since[8:10]) - 20
        draft = order_draft(line_draft(self.sku, 1), external_id=f"o-{number}")
        following = self.after(number)
        resume = (
            f"2026-11-{20 + number}T12:00:00Z" if self.moves else "" if following else "2026-11-26T00:00:00Z"
        )
        return OrderPage((draft,), following, resume)


def turns(account: ChannelAccount, most: int = 20) -> int:
    """Pull until no further turn is rung; how many it took."""
    for number in range(1, most + 1):
        Doorbell.objects.all().delete()
        pulls.pull_orders(account.pk)
        if not Doorbell.objects.filter(task="channels.tasks.pull_account").exists():
            return number
    return most


def test_it_goes_on_at_the_page_where_it_stopped(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(monkeypatch)
    assert pulls.pull_orders(account.pk) == {"created": 2}
    account.refresh_from_db()
    assert (account.orders_page["cursor"], account.orders_cursor) == ("2", "")
    assert Doorbell.objects.filter(task="channels.tasks.pull_account", subject=str(account.pk)).exists()
    assert turns(account) == 3
    assert Order.objects.count() == PAGES
    assert [cursor for _, cursor in remote.asked] == ["", "1", "2", "3", "4", "5", "6"], "no page twice"
    assert len({since for since, _ in remote.asked}) == 1
    account.refresh_from_db()
    assert (account.orders_page, account.orders_cursor) == ({}, "2026-11-26T00:00:00Z")
    assert not ExceptionItem.objects.exists(), "of a first pull nobody could be notified"


def test_a_page_that_fails_is_where_the_next_turn_begins(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(monkeypatch)
    remote.fail = {"1": Retry.THROTTLED}
    with pytest.raises(ChannelError):
        pulls.pull_orders(account.pk)
    turns(account)
    assert Order.objects.count() == PAGES
    assert [cursor for _, cursor in remote.asked].count("") == 1, "it does not begin anew"


def test_a_page_that_the_channel_has_forgotten_begins_the_pull_anew(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(monkeypatch)
    pulls.pull_orders(account.pk)
    remote.fail = {"2": Retry.REJECTED}
    with pytest.raises(ChannelError):
        pulls.pull_orders(account.pk)
    assert ChannelAccount.objects.get(pk=account.pk).orders_page == {}
    turns(account)
    assert Order.objects.count() == PAGES


def test_where_each_page_moves_the_beginning_no_page_is_kept(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    ChannelAccount.objects.filter(pk=account.pk).update(orders_cursor="2026-11-20T12:00:00Z")
    Remote(monkeypatch, moves=True)
    pulls.pull_orders(account.pk)
    account.refresh_from_db()
    assert (account.orders_page["cursor"], account.orders_cursor[:10]) == ("", "2026-11-21")
    turns(account)
    account.refresh_from_db()
    assert (Order.objects.count(), account.orders_page) == (PAGES, {})


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (lambda number: "1", "names a page again"),
        (lambda number: str(number + 1), "still names a further page"),
    ],
    ids=["loop", "endless"],
)
def test_a_list_without_an_end_is_told_and_not_read_for_ever(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch, after: Callable[[int], str], words: str
) -> None:
    remote = Remote(monkeypatch)
    remote.after = after
    monkeypatch.setattr(pulls, "MAX_TURNS", 3)
    assert turns(account) <= 3
    item = ExceptionItem.objects.get(kind="pull_endless")
    assert words in item.detail and item.channel_code == "acme"
    assert ChannelAccount.objects.get(pk=account.pk).orders_page == {}
    remote.after = remote.count
    monkeypatch.setattr(pulls, "MAX_TURNS", 9)
    turns(account)
    assert not ExceptionItem.objects.filter(kind="pull_endless", closed_at__isnull=True).exists()


def test_a_weekly_pull_that_is_cut_short_is_told(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    Remote(monkeypatch)
    pulls.pull_orders(account.pk, days=7)
    assert "still names a further page after 2 pages" in ExceptionItem.objects.get().detail
    account.refresh_from_db()
    assert (account.orders_page, account.orders_cursor) == ({}, ""), "the ordinary pull stands where it stood"


def test_units_sold_unseen_are_free_once_the_whole_pull_is_read(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By when the first turn began: what was sold while later ones read may stand on pages read before."""
    Remote(monkeypatch)
    seen: list[dt.datetime] = []
    monkeypatch.setattr(pulls.pushing, "forget_unseen", lambda pk, before: seen.append(before))
    pulls.pull_orders(account.pk)
    assert not seen
    began: Any = ChannelAccount.objects.get(pk=account.pk).orders_page["began"]
    turns(account)
    lag = dt.timedelta(seconds=pulls.get_connector("ebay").capabilities.visible_after_seconds)
    assert seen == [dt.datetime.fromisoformat(began) - lag]


def test_unseen_sales_are_sought_as_soon_and_as_often_as_the_list_can_show_them(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[str] = []
    monkeypatch.setattr(tasks, "ring", lambda task, subject: rung.append(task))
    lag = dt.timedelta(seconds=pulls.get_connector("ebay").capabilities.visible_after_seconds)
    at = now()
    listing = Listing.objects.create(
        account=account, external_id="1", sku=Sku.objects.get(), unseen_since=at - lag, held=3, acked_quantity=2,
        acked_at=at - lag / 2,
    )  # fmt: skip

    def sought(**changes: object) -> bool:
        for row in (listing, account):
            for name, value in changes.items():
                if hasattr(row, name):
                    setattr(row, name, value)
            row.save()
        rung.clear()
        tasks.seek_unseen("")
        return rung == ["channels.tasks.pull_account"]

    assert not sought(), "the list may not show that sale yet"
    assert sought(acked_at=at - lag - dt.timedelta(seconds=1))
    assert not sought(last_pull_at=at - lag / 4), "it was asked just now"
    assert sought(last_pull_at=at - lag)
    assert not sought(last_error="the answer was lost"), (
        "no pull frees a listing that must be looked at first"
    )
