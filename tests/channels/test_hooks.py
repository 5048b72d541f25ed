"""What knocks at the door and is no message: each is refused in words, none breaks it, none is stored half."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import pytest
from django.test import Client

from channels import hooks, inbox
from channels.connectors.shopify.webhooks import sign
from channels.hooks import MAX_BODY, MAX_DEPTH, plain, unfit
from channels.models import ChannelAccount, InboxMessage
from oms.core.actor import SYSTEM
from oms.core.models import ExceptionItem, OutboxEvent
from tests.factories import make_channel

pytestmark = pytest.mark.django_db
SECRET = "shpss_test"
ORDER = b'{"id": 77, "updated_at": "2026-11-23T10:00:00Z"}'


@pytest.fixture
def account() -> ChannelAccount:
    return ChannelAccount.objects.create(
        sales_channel=make_channel("acme"), connector="shopify", state="connected",
        config={"shop_domain": "acme.myshopify.com", "app": "custom"}, credentials={"client_secret": SECRET},
    )  # fmt: skip


def knock(account: ChannelAccount, raw: bytes, *, secret: str = SECRET, **headers: str) -> Any:
    kind = headers.pop("content_type", "application/json")
    signed = {
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Webhook-Id": "d-1",
        "X-Shopify-Hmac-SHA256": sign(secret, raw),
    }
    client = Client(raise_request_exception=False)
    return client.post(f"/hooks/{account.hook_key}/", data=raw, content_type=kind, headers=signed | headers)


UNFIT = [
    (b'{"id": 7, "note": "a\\u0000b"}', "U+0000"),
    (b'{"id": 7, "a\\u0000b": 1}', "U+0000"),
    (b'{"id": 7, "note": "\\ud800"}', "half of a character pair"),
    (b"[" * 100_000, "nested more than"),
    (b'{"id": ' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "nested more than"),
    (b'{"id": ' + b"9" * 5000 + b"}", "number"),
    (b'{"id": ' + b"9" * 60 + b"}", "number"),
    (b'{"id": 1e400}', "number"),
    (b'{"id": 1e99999999999999999999}', "number"),
    (b'{"id": NaN}', "number"),
    (b'{"id": "\xff\xfe"}', "not UTF-8"),
    (b'{"id": 7', "not JSON at line 1, column 9"),
    (gzip.compress(ORDER), "not UTF-8"),
    (b"", "not JSON"),
]


@pytest.mark.parametrize(("raw", "words"), UNFIT, ids=[words for _, words in UNFIT])
def test_a_signed_body_that_is_no_json_is_kept_once_and_shown_to_a_person(
    account: ChannelAccount, raw: bytes, words: str
) -> None:
    for _ in range(2):  # refused, it would only come again, and the channel would switch the address off
        assert knock(account, raw).status_code == 200
    kept = InboxMessage.objects.get()
    assert (kept.state, kept.topic, kept.external_id) == ("dead", "unreadable", "")
    assert words in kept.error
    assert ExceptionItem.objects.get(kind="inbox_dead").seen == 1
    assert not OutboxEvent.objects.filter(topic="inbox.received").exists(), "nobody works on it"
    inbox.drain(account.pk)
    assert InboxMessage.objects.get().state == "dead"


def test_a_cause_is_shown_once_and_closed_with_its_last_message(account: ChannelAccount) -> None:
    for raw in (b"{broken", b'{"id": 7', b'{"id": NaN}'):
        assert knock(account, raw).status_code == 200
    told = ExceptionItem.objects.filter(kind="inbox_dead", closed_at__isnull=True).order_by("pk")
    assert list(told.values_list("seen", flat=True)) == [2, 1]
    first, second, other = InboxMessage.objects.order_by("pk")
    inbox.ignore(first.pk, actor=SYSTEM)
    assert told.count() == 2
    inbox.replay(second.pk, actor=SYSTEM)
    assert told.get().detail == other.error


@pytest.mark.parametrize(("raw", "words"), UNFIT, ids=[words for _, words in UNFIT])
def test_from_a_stranger_the_same_is_just_a_stranger(account: ChannelAccount, raw: bytes, words: str) -> None:
    assert knock(account, raw, secret="wrong").status_code == 401
    assert not InboxMessage.objects.exists()


def test_json_of_a_shape_that_we_do_not_know_is_taken_for_a_person(account: ChannelAccount) -> None:
    for raw in (b"[1]", b'"text"', b"7", b"null"):
        assert knock(account, raw).status_code == 200
    assert set(InboxMessage.objects.values_list("state", flat=True)) == {"dead"}
    assert InboxMessage.objects.count() == 4


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"content_type": "multipart/form-data; boundary=x"}, 415, "Content-Type: send JSON"),
        ({"content_type": "application/xml"}, 415, "Content-Type: send JSON"),
        ({"content_type": "application/octet-stream"}, 415, "Content-Type: send JSON"),
        ({"Content-Encoding": "gzip"}, 415, "Content-Encoding: send the message as it is"),
        ({"Content-Encoding": "br"}, 415, "Content-Encoding:"),
    ],
)
def test_what_is_not_plain_json_is_not_even_opened(
    account: ChannelAccount, headers: dict[str, str], status: int, words: str
) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    answer = knock(account, bomb, **headers)
    assert (answer.status_code, words in answer.content.decode()) == (status, True)
    assert not InboxMessage.objects.exists()


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "application/vnd.shop+json", "text/plain"]
)
def test_json_under_its_other_names_is_taken(account: ChannelAccount, kind: str) -> None:
    assert knock(account, ORDER, content_type=kind).status_code == 200
    assert InboxMessage.objects.get().state == "received"


@pytest.mark.parametrize("length", ["abc", "²", "-1", "9" * 5000])
def test_a_length_that_is_none(account: ChannelAccount, length: str) -> None:
    client = Client(raise_request_exception=False)
    url = f"/hooks/{account.hook_key}/"
    answer = client.generic("POST", url, b"{}", "application/json", CONTENT_LENGTH=length)
    assert answer.status_code in (400, 413) and answer.content
    assert knock(account, b" " * (MAX_BODY + 1)).status_code == 413
    assert not InboxMessage.objects.exists()


def test_a_moment_beyond_every_calendar_is_left_out(account: ChannelAccount) -> None:
    raw = json.dumps({"id": 7}).encode()
    assert knock(account, raw, **{"X-Shopify-Triggered-At": "9999-12-31T23:59:59-14:00"}).status_code == 200
    assert InboxMessage.objects.get().event_at is None


def test_the_quick_look_never_passes_what_the_close_one_refuses() -> None:
    for raw, _ in UNFIT[:10]:
        assert not plain(raw)
    deep, deepest = (b"[" * times + b"]" * times for times in (MAX_DEPTH - 1, MAX_DEPTH))
    # brackets in a text are no levels
    assert plain(b'{"a": "]]]]", "b": ' + deep + b"}") and not plain(b'{"a": "]]]]", "b": ' + deepest + b"}")
    assert not plain(b'{"a": "\\"]]", "b": ' + deepest + b"}")
    for text in (
        b'{"a": 12.5, "b": [true, false, null], "c": "1e400 NaN"}',
        b'{"url": "https:\\/\\/shop.example"}',
    ):
        assert plain(text) and not unfit(text)
    for text in (b'{"a": 1e2}', b'{"a": 1E400}', b'{"a": -Infinity}', b'{"a": ' + b"1" * 30 + b"}"):
        assert not plain(text)


def test_a_sound_body_of_any_size_is_fit() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    for text in (
        '{"a": [1, -2.5, true, null, "é😀"]}',
        deep,
        "1",
        '{"a": 1e39}',
        json.dumps({"x": ["y"] * 9000}),
    ):
        assert unfit(text.encode()) == ""


def test_an_account_is_read_once_for_many_messages(
    account: ChannelAccount, django_assert_max_num_queries: Any
) -> None:
    quantity = {"X-Shopify-Topic": "inventory_levels/update"}
    assert (
        knock(account, b'{"inventory_item_id": 1}', **{"X-Shopify-Webhook-Id": "d-0"}, **quantity).status_code
        == 200
    )
    with django_assert_max_num_queries(3):  # a savepoint, the row and its release
        said = knock(account, b'{"inventory_item_id": 1}', **{"X-Shopify-Webhook-Id": "d-1"}, **quantity)
    assert said.status_code == 200
    assert InboxMessage.objects.count() == 2


def test_a_changed_secret_counts_at_once_whoever_saved_it(account: ChannelAccount) -> None:
    """Another process saved it: the copy that this one has is not trusted to refuse anybody."""
    assert knock(account, ORDER).status_code == 200
    changed = ChannelAccount(pk=account.pk, credentials={"client_secret": "anew"})
    ChannelAccount.objects.filter(pk=account.pk).update(
        credentials=changed.credentials
    )  # sends no signal here
    assert knock(account, ORDER, secret="anew").status_code == 200
    assert knock(account, ORDER).status_code == 401


def test_a_disabled_account_is_a_stranger(account: ChannelAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    assert knock(account, ORDER).status_code == 200
    account.state = ChannelAccount.State.DISABLED
    account.save()
    assert knock(account, ORDER).status_code == 401
    account.state = ChannelAccount.State.CONNECTED
    account.save()
    assert knock(account, ORDER).status_code == 200
    ChannelAccount.objects.filter(pk=account.pk).update(
        state=ChannelAccount.State.DISABLED
    )  # by another process
    clock = time.monotonic() + hooks.REMEMBERED_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    assert knock(account, ORDER).status_code == 401
