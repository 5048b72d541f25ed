"""An order pull that is too long for one turn goes on in the next, and one without an end is told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from channels import pulls, selectors, sync, tasks
from channels.connectors.base import ChannelError, OrderPage, PoolLevel, PoolPage, RemoteReturn, Retry
from channels.models import ChannelAccount, Listing, LocationMap
from channels.pulls import TURN_SECONDS
from inventory.models import Sku, StockLevel, StockMovement
from oms.core.actor import SYSTEM
from oms.core.clock import now
from oms.core.models import AuditEntry, Doorbell, ExceptionItem
from oms.orders.models import Order, SalesChannel
from tests.factories import (
    add_stock,
    line_draft,
    make_channel,
    make_sku,
    make_user,
    make_warehouse,
    order_draft,
)

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
        self.moves = moves
        self.asked: list[tuple[str, str]] = []
        self.fail: dict[str, Retry] = {}
        self.after: Callable[[int], str] = self.count
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


def turns(account: ChannelAccount, most: int = 20, days: int | None = None) -> int:
    """Pull until no further turn is rung; how many it took."""
    task = f"channels.tasks.{'pull_week' if days else 'pull_account'}"
    for number in range(1, most + 1):
        Doorbell.objects.all().delete()
        pulls.pull_orders(account.pk, days=days)
        if not Doorbell.objects.filter(task=task).exists():
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
    monkeypatch.setattr(pulls, "ENDLESS", 6)
    assert turns(account) <= 3
    item = ExceptionItem.objects.get(kind="pull_endless")
    assert words in item.detail and item.channel_code == "acme"
    assert ChannelAccount.objects.get(pk=account.pk).orders_page == {}
    remote.after = remote.count
    monkeypatch.setattr(pulls, "ENDLESS", 18)
    turns(account)
    assert not ExceptionItem.objects.filter(kind="pull_endless", closed_at__isnull=True).exists()


def test_a_turn_ends_before_the_worker_ends_it(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    Remote(monkeypatch)
    monkeypatch.setattr(pulls, "MAX_PAGES", 500)
    monkeypatch.setattr(pulls, "TURN_SECONDS", 0.0)
    assert (turns(account), Order.objects.count()) == (PAGES, PAGES)
    assert int(str(settings.Q_CLUSTER["timeout"])) > TURN_SECONDS


def test_a_weekly_pull_goes_on_beside_the_ordinary_one(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(monkeypatch)
    pulls.pull_orders(account.pk, days=7)
    account.refresh_from_db()
    assert (account.week_page["cursor"], account.orders_page, account.orders_cursor) == ("2", {}, "")
    assert Doorbell.objects.filter(task="channels.tasks.pull_week", subject=str(account.pk)).exists()
    # its bell is lost, and the ordinary pull comes between
    Doorbell.objects.all().delete()
    ChannelAccount.objects.update(last_pull_at=now() - dt.timedelta(hours=1))
    tasks.pull_orders("")
    assert Doorbell.objects.filter(task="channels.tasks.pull_week", subject=str(account.pk)).exists()
    turns(account)
    account.refresh_from_db()
    assert (account.week_page["cursor"], account.orders_cursor) == ("2", "2026-11-26T00:00:00Z")
    remote.asked.clear()
    assert turns(account, days=7) == 3
    assert [cursor for _, cursor in remote.asked] == ["2", "3", "4", "5", "6"]
    account.refresh_from_db()
    assert (account.week_page, account.orders_cursor) == ({}, "2026-11-26T00:00:00Z")
    assert not ExceptionItem.objects.filter(kind="pull_endless").exists()


def test_a_long_pull_is_told_in_the_log_and_on_the_screen_while_it_goes_on(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, client: Client
) -> None:
    Remote(monkeypatch)
    client.force_login(make_user("boss", "owner"))
    with caplog.at_level("INFO", logger="lading.channels"):
        pulls.pull_orders(account.pk)
    assert any(getattr(record, "pages", 0) == 2 for record in caplog.records)
    words = "Orders are being read since"
    page = client.get("/channels/acme/").content.decode()
    assert words in page and "2 pages so far" in page
    turns(account)
    assert words not in client.get("/channels/acme/").content.decode()


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


class Pool:
    """A channel's own warehouse, one of its SKUs a page; two of them are one of ours."""

    CODES = ("MUG-A", "MUG-B", "CUP", "POT", "JAR")

    def __init__(self, account: ChannelAccount, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.fail: dict[str, Retry] = {}
        monkeypatch.setattr(pulls, "MAX_PAGES", 2)
        monkeypatch.setattr(pulls.asking, "pool", lambda cursor: cursor)
        monkeypatch.setattr(pulls, "do", self.answer)
        ChannelAccount.objects.filter(pk=account.pk).update(connector="amazon")
        self.account = account
        self.pool = make_warehouse("FBA", kind="fba")
        LocationMap.objects.create(account=account, warehouse=self.pool, external_id="FBA")
        mug = Sku.objects.get()
        for code in self.CODES:
            Listing.objects.create(
                account=account, external_id=code, external_sku=code, fulfilment="channel",
                sku=mug if code.startswith("MUG") else make_sku(code),
            )  # fmt: skip

    def answer(self, account_id: int, cursor: str) -> PoolPage:
        self.asked.append(cursor)
        if cursor in self.fail:
            raise ChannelError(self.fail.pop(cursor), "no")
        number = int(cursor or 0)
        level = PoolLevel(self.CODES[number], 10 + number, 0, 1, 0, now())
        return PoolPage((level,), str(number + 1) if number + 1 < len(self.CODES) else "")

    def pull(self) -> object:
        Doorbell.objects.all().delete()
        return pulls.pull_pool(self.account.pk)

    @property
    def goes_on(self) -> bool:
        return Doorbell.objects.filter(task="channels.tasks.pull_pool", subject=str(self.account.pk)).exists()

    def units(self) -> dict[str, int]:
        return dict(StockLevel.objects.filter(warehouse=self.pool).values_list("sku__code", "on_hand"))


def test_figures_of_a_pool_are_gathered_over_several_turns_and_booked_together(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch, assert_invariants: Callable[[], None]
) -> None:
    pool = Pool(account, monkeypatch)
    assert pool.pull() is None and pool.goes_on
    assert pool.pull() is None and pool.goes_on and not pool.units()
    assert "4 pages so far" in selectors.health(ChannelAccount.objects.all())[0].unfinished[0]
    assert pool.pull() is not None and not pool.goes_on
    assert pool.asked == ["", "1", "2", "3", "4"]
    assert pool.units() == {"MUG": 10 + 11 + 2, "CUP": 13, "POT": 14, "JAR": 15}
    assert ChannelAccount.objects.get().pool_page == {}
    assert_invariants()


def test_a_page_of_a_pool_that_the_channel_has_forgotten_begins_it_anew(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(account, monkeypatch)
    pool.pull()
    pool.fail = {"2": Retry.REJECTED}
    with pytest.raises(ChannelError):
        pool.pull()
    monkeypatch.setattr(pulls, "MAX_PAGES", 9)
    assert pool.pull() is not None
    assert pool.units()["MUG"] == 23, "what was read twice counts once"


def test_old_figures_of_a_pool_are_not_gone_on_with(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(account, monkeypatch)
    pool.pull()
    kept = ChannelAccount.objects.get().pool_page
    began = now() - pulls.POOL_AGE - dt.timedelta(minutes=1)
    ChannelAccount.objects.update(pool_page={**kept, "began": began.isoformat()})
    pool.pull()
    assert pool.asked == ["", "1", "", "1"]


def test_a_pool_without_an_end_is_told_and_books_nothing(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(account, monkeypatch)
    monkeypatch.setattr(pulls, "ENDLESS", 4)
    pool.pull()
    assert pool.pull() is None and not pool.goes_on and not pool.units()
    assert "4 pages" in ExceptionItem.objects.get(kind="pull_endless", closed_at__isnull=True).detail
    monkeypatch.setattr(pulls, "MAX_PAGES", 9)
    pool.pull()
    assert not ExceptionItem.objects.filter(kind="pull_endless", closed_at__isnull=True).exists()


def test_each_pool_is_read_in_a_task_of_its_own(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(account, monkeypatch)
    tasks.pull_pool("")
    assert pool.goes_on and not pool.asked
    tasks.pull_pool(str(account.pk))
    assert pool.asked == ["", "1"]


def test_a_person_hears_of_a_pull_that_the_channel_refuses(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No breaker opens for it, so nobody would: the orders of a shop whose address changed would just not come."""
    remote = Remote(monkeypatch)
    told = ExceptionItem.objects.filter(kind="pull_refused", closed_at__isnull=True)
    remote.fail = {"": Retry.THROTTLED}
    tasks.pull_account(str(account.pk))
    assert not told.exists(), "it is only asked to wait"
    for _ in range(2):
        remote.fail = {"": Retry.REJECTED}
        tasks.pull_account(str(account.pk))
    assert (told.get().seen, told.get().channel_code) == (2, "acme")
    tasks.pull_account(str(account.pk))
    assert not told.exists()
    remote.fail = {"2": Retry.REJECTED}
    tasks.pull_account(str(account.pk))
    assert not told.exists(), "a page that it has forgotten is read again from the beginning"


def test_a_person_hears_of_a_return_that_cannot_be_read(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [RemoteReturn("", "", "unreadable", (), f"KeyError: '{name}'") for name in ("a", "b")]
    rows.append(RemoteReturn("R-7", "", "unreadable", (), "KeyError: 'a'"))
    monkeypatch.setattr(pulls, "do", lambda *asked: rows)
    assert pulls.pull_returns(account.pk) == 0
    told = ExceptionItem.objects.filter(kind="return_refused").order_by("pk")
    assert [(one.seen, "R-7" in one.detail) for one in told] == [(2, False), (1, True)]


def test_people_read_the_name_of_the_channel(
    account: ChannelAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    SalesChannel.objects.update(name="Acme US")
    Remote(monkeypatch)
    turns(account)
    assert set(StockMovement.objects.filter(kind="reserve").values_list("actor", flat=True)) == {
        "channel:Acme US"
    }
    sync.pause(account.pk, "stocktake", actor=SYSTEM)
    assert AuditEntry.objects.get(action="channel.paused").object_label == "Acme US"
