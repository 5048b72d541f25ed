from __future__ import annotations

import asyncio
import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import time_machine

from oms.core import egress, limits
from oms.core.clock import now
from oms.core.db import close_db_threads
from oms.core.http import HttpDoor, HttpFailure, HttpRequest, Kind, reset_breaker, retry_after_of
from oms.core.limits import Rate
from oms.core.masking import excerpt, mask_text
from oms.core.models import CircuitBreaker, ExceptionItem, OutboundCall, TokenBucket

HOST = "api.example.com"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_memory() -> Iterator[None]:
    limits.forget_copies()
    yield
    limits.forget_copies()


def request(**changes: Any) -> HttpRequest:
    values: dict[str, Any] = {
        "account_key": "acct:1",
        "method": "GET",
        "url": f"https://{HOST}/v1/x",
        "allowed_hosts": (HOST,),
    }
    return HttpRequest(**values | changes)


def door(answer: Callable[[httpx.Request], httpx.Response]) -> HttpDoor:
    return HttpDoor(transport=httpx.MockTransport(answer), async_transport=httpx.MockTransport(answer))


def always(status: int, **kwargs: Any) -> HttpDoor:
    return door(lambda _: httpx.Response(status, **kwargs))


def failing(error: type[httpx.HTTPError]) -> HttpDoor:
    def answer(sent: httpx.Request) -> httpx.Response:
        raise error("broken")

    return door(answer)


def failure_of(the_door: HttpDoor, req: HttpRequest) -> HttpFailure:
    with pytest.raises(HttpFailure) as caught:
        the_door.call(req)
    return caught.value


def test_answer_numbers_are_exact() -> None:
    answer = always(200, content=b'{"price": 0.1, "n": 3}').call(request())
    assert answer.json() == {"price": Decimal("0.1"), "n": 3}
    assert isinstance(answer.json()["price"], Decimal)


@pytest.mark.parametrize(
    ("status", "headers", "method", "idempotent", "kind"),
    [
        (401, {}, "GET", False, Kind.AUTH),
        (403, {}, "POST", False, Kind.AUTH),
        (429, {"Retry-After": "7"}, "POST", False, Kind.THROTTLED),
        (503, {"Retry-After": "7"}, "POST", False, Kind.THROTTLED),
        (503, {}, "GET", False, Kind.TRANSIENT),
        (500, {}, "POST", True, Kind.TRANSIENT),
        (500, {}, "POST", False, Kind.TIMEOUT_AFTER_SEND),
        (422, {}, "POST", False, Kind.REJECTED),
        (404, {}, "GET", False, Kind.REJECTED),
        (302, {"Location": "https://evil.example/"}, "GET", False, Kind.REJECTED),
    ],
)
def test_what_a_status_means(
    status: int, headers: dict[str, str], method: str, idempotent: bool, kind: Kind
) -> None:
    failure = failure_of(always(status, headers=headers), request(method=method, idempotent=idempotent))
    assert (failure.kind, failure.status) == (kind, status)


@pytest.mark.parametrize(
    ("error", "method", "kind"),
    [
        (httpx.ConnectError, "POST", Kind.TRANSIENT),
        (httpx.ConnectTimeout, "POST", Kind.TRANSIENT),
        (httpx.ReadTimeout, "POST", Kind.TIMEOUT_AFTER_SEND),
        (httpx.RemoteProtocolError, "POST", Kind.TIMEOUT_AFTER_SEND),
        (httpx.ReadTimeout, "GET", Kind.TRANSIENT),
    ],
)
def test_what_a_broken_connection_means(error: type[httpx.HTTPError], method: str, kind: Kind) -> None:
    assert failure_of(failing(error), request(method=method)).kind is kind


def test_hosts_not_on_the_list_and_plain_http_are_refused_unsent() -> None:
    sent: list[str] = []

    def answer(got: httpx.Request) -> httpx.Response:
        sent.append(str(got.url))
        return httpx.Response(200)

    the_door = door(answer)
    for url in (
        f"https://{HOST}.evil.example/",
        f"http://{HOST}/",
        "https://evil.example/",
        f"https://x.{HOST}/",
    ):
        assert failure_of(the_door, request(url=url)).kind is Kind.REFUSED
    assert sent == []
    the_door.call(
        request(
            url="https://shop.myshopify.com/a?b=1", allowed_hosts=("*.myshopify.com",), params={"c": "2 3"}
        )
    )
    assert sent == ["https://shop.myshopify.com/a?b=1&c=2+3"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.0.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("172.16.5.4", False),
        ("192.168.1.1", False),
        ("192.0.2.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::a00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("not an address", False),
    ],
)
def test_only_public_addresses_pass(address: str, public: bool) -> None:
    assert egress.is_public(address) is public


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://shop.example/", "https://"),
        ("https://shop.example:8443/", "port 443"),
        ("https://user:pw@shop.example/", "user name"),
        ("https://", "no host"),
        ("https://[::1", "cannot be read"),
        ("ftp://shop.example/", "https://"),
        ("https://shop.example:99999/", "cannot be read"),
    ],
)
def test_urls_typed_in_by_users(url: str, words: str) -> None:
    with pytest.raises(egress.Refused, match=words):
        egress.check_user_url(url)


def test_a_second_answer_of_the_name_server_changes_nothing() -> None:
    """Rebinding: the address that was checked is the address that is called, with the shop's name in TLS and Host."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    sent: list[httpx.Request] = []

    def answer(got: httpx.Request) -> httpx.Response:
        sent.append(got)
        return httpx.Response(200)

    the_door = HttpDoor(transport=httpx.MockTransport(answer), resolver=lambda host, port: next(answers))
    the_door.call(request(url="https://shop.example/wp-json", user_url=True, allowed_hosts=()))
    assert str(sent[0].url) == "https://93.184.216.34/wp-json"
    assert sent[0].headers["host"] == "shop.example"
    assert sent[0].extensions["sni_hostname"] == "shop.example"
    refused = failure_of(
        the_door, request(url="https://shop.example/wp-json", user_url=True, allowed_hosts=())
    )
    assert (refused.kind, len(sent)) == (Kind.REFUSED, 1)
    assert "private address 127.0.0.1" in refused.message


def test_an_endless_answer_is_cut_off() -> None:
    failure = failure_of(always(200, content=b"x" * 5000), request(max_bytes=4096))
    assert failure.kind is Kind.TRANSIENT
    assert "more than 4096 bytes" in failure.message


def test_five_failures_open_the_breaker_and_one_probe_closes_it() -> None:
    broken, well = always(500), always(200)
    start = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(5):
            assert failure_of(broken, request()).kind is Kind.TRANSIENT
        stopped = failure_of(well, request())
        assert (stopped.kind, stopped.retry_after) == (Kind.BREAKER_OPEN, 30.0)
        assert ExceptionItem.objects.get(closed_at=None).kind == "connection_down"
        clock.shift(31)
        assert failure_of(broken, request()).kind is Kind.TRANSIENT  # the probe fails: twice the pause
        assert failure_of(well, request()).retry_after == 60.0
        clock.shift(61)
        limits.may_call("acct:1")  # somebody else's probe is under way
        assert failure_of(well, request()).kind is Kind.BREAKER_OPEN
        clock.shift(31)
        assert well.call(request()).status == 200
        assert well.call(request()).status == 200
    assert not ExceptionItem.objects.filter(closed_at=None).exists()
    assert CircuitBreaker.objects.get().open_until is None


def test_breaker_pause_grows_to_its_longest() -> None:
    start = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
    pauses: list[float] = []
    with time_machine.travel(start, tick=False) as clock:
        for _ in range(4):
            limits.failed("k", "down")
        for _ in range(7):
            limits.failed("k", "down")
            until = CircuitBreaker.objects.get().open_until
            assert until is not None
            pauses.append((until - now()).total_seconds())
            clock.shift(pauses[-1] + 1)
            assert limits.may_call("k") is None
    assert pauses == [30, 60, 120, 240, 480, 600, 600]


def test_more_than_half_of_twenty_calls_open_the_breaker() -> None:
    for number in range(19):
        if number % 2:
            limits.needs_reset("k")  # a success, counted in this process
            CircuitBreaker.objects.update(failures=0)
        else:
            limits.failed("k", "down")
    assert CircuitBreaker.objects.get().open_until is None
    CircuitBreaker.objects.update(failures=0)
    limits.failed("k", "down")
    row = CircuitBreaker.objects.get()
    assert (row.window_calls, row.window_failures) == (20, 11)
    assert row.open_until is not None


def test_refused_credentials_block_until_they_change() -> None:
    for _ in range(3):
        assert failure_of(always(401), request()).kind is Kind.AUTH
    blocked = failure_of(always(200), request())
    assert (blocked.kind, blocked.retry_after) == (Kind.BREAKER_OPEN, None)
    assert ExceptionItem.objects.get(closed_at=None).kind == "credentials_refused"
    reset_breaker("acct:1")
    assert always(200).call(request()).status == 200
    assert not ExceptionItem.objects.filter(closed_at=None).exists()


def test_throttling_pauses_halves_the_budget_and_is_no_failure() -> None:
    start = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
    with time_machine.travel(start, tick=False) as clock:
        throttled = failure_of(always(429, headers={"Retry-After": "7"}), request(rate=Rate(8, 16)))
        assert (throttled.kind, throttled.retry_after) == (Kind.THROTTLED, 7.0)
        waiting = failure_of(always(200), request(rate=Rate(8, 16), max_wait=0))
        assert (waiting.kind, waiting.retry_after) == (Kind.THROTTLED, 7.0)
        assert TokenBucket.objects.get().per_second == 4.0
        assert not CircuitBreaker.objects.exists()
        clock.shift(8)
        assert always(200).call(request(rate=Rate(8, 16))).status == 200


def test_token_bucket_counts_exactly_and_hints_replace_the_declared_rate() -> None:
    start = dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC)
    with time_machine.travel(start, tick=False) as clock:
        rate = Rate(2, 3)
        assert [limits.take("k", 1, rate) for _ in range(4)] == [0, 0, 0, 0.5]
        clock.shift(0.5)
        assert [limits.take("k", 1, rate) for _ in range(2)] == [0, 0.5]
        limits.hint("k", per_second=10, burst=20)
        assert limits.take("k", 1, rate) == pytest.approx(0.1)
        limits.hint("k", remaining=0)
        clock.shift(1)
        assert [limits.take("k", 1, rate) for _ in range(11)] == [0] * 10 + [pytest.approx(0.1)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("Mon, 23 Nov 2026 08:01:00 GMT", 60.0),
        ("86400", 900.0),
        ("Mon, 23 Nov 2026 07:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(text: str, seconds: float | None) -> None:
    with time_machine.travel(dt.datetime(2026, 11, 23, 8, tzinfo=dt.UTC), tick=False):
        assert retry_after_of({"retry-after": text}) == seconds


def test_the_journal_never_holds_secrets_or_buyers() -> None:
    secrets = ("s3cr3t-token", "hunter2hunter2", "Ada Lovelace", "ada@example.com", "shpat_0123456789abcdef")
    body = {
        "client_secret": secrets[1],
        "order": {"shippingAddress": {"first_name": "Ada Lovelace", "email": secrets[3]}},
    }
    answer = {"access_token": secrets[0], "sku": "MUG", "note": f"token {secrets[4]}"}
    always(200, json=answer).call(
        request(
            method="POST",
            url=f"https://{HOST}/oauth?access_token={secrets[0]}&page=2",
            headers={
                "Authorization": f"Bearer {secrets[0]}",
                "X-Shopify-Access-Token": secrets[4],
                "X-Trace": "abc",
            },
            json=body,
        )
    )
    row = OutboundCall.objects.get()
    written = f"{row.path}{row.request}{row.answer}"
    assert [secret for secret in secrets if secret in written] == []
    assert "X-Trace: abc" in row.request and '"sku": "MUG"' in row.answer and "page=2" in row.path
    assert (row.account, row.method, row.host, row.status, row.failure) == ("acct:1", "POST", HOST, 200, "")


@pytest.mark.parametrize("size", [100, 20_000])
def test_cut_bodies_are_masked_too(size: int) -> None:
    body = json.dumps({"pad": "x" * 100, "password": "hunter2hunter2", "rest": "y" * size})
    assert "hunter2" not in excerpt(body) and "***" in excerpt(body)
    assert "hunter2" not in excerpt(body[:140]) and len(excerpt(body)) <= 2000


def test_whatever_describes_a_person_is_masked() -> None:
    order = {
        "sku": "MUG-BLU", "name": "#1001",
        "shipping_address": {"name": "Ada Lovelace", "zip": "94107", "country": "US", "lines": ["Apt 5 Main St"]},
        "ShippingAddress": {"City": "Springfield", "StateOrRegion": "IL"},
    }  # fmt: skip
    kept = json.loads(excerpt(json.dumps(order)))
    assert kept == {
        "sku": "MUG-BLU", "name": "#1001",
        "shipping_address": {"name": "***", "zip": "***", "country": "US", "lines": ["***"]},
        "ShippingAddress": {"City": "***", "StateOrRegion": "IL"},
    }  # fmt: skip
    cut = json.dumps(order)[:150]
    assert "Ada" not in excerpt(cut) and "94107" not in excerpt(cut) and "MUG-BLU" in excerpt(cut)
    xml = "<Ship><ns:Name>Ada Lovelace</ns:Name><Sku>MUG</Sku></Ship>"
    assert excerpt(xml) == "<Ship><ns:Name>***</ns:Name><Sku>MUG</Sku></Ship>"


def test_tokens_in_plain_text_are_masked() -> None:
    assert mask_text("Bearer abcdef123456 and oms_a1b2c3d4_Secretsecret-x") == "Bearer *** and ***"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections: set[Any] = set()
    paths: list[str] = []

    def do_GET(self) -> None:
        self.connections.add(self.client_address)
        self.paths.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    _Handler.connections, _Handler.paths = set(), []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_host_map_leads_to_a_local_server_and_connections_are_kept(server: str, settings: Any) -> None:
    settings.HOST_MAP = {HOST: f"{server}/ebay", "*.myshopify.com": f"{server}/shopify/{{host}}"}
    the_door = HttpDoor()
    for _ in range(3):
        the_door.call(request(params={"a": "1"}))
    the_door.call(request(url="https://one.myshopify.com/admin", allowed_hosts=("*.myshopify.com",)))
    the_door.call(request(url=f"https://{HOST}/typed", user_url=True, allowed_hosts=()))
    the_door.close()
    assert _Handler.paths == [*["/ebay/v1/x?a=1"] * 3, "/shopify/one.myshopify.com/admin", "/ebay/typed"]
    assert len(_Handler.connections) == 2  # one per mapped address
    assert set(OutboundCall.objects.values_list("host", flat=True)) == {HOST, "one.myshopify.com"}


@pytest.mark.django_db(transaction=True)
def test_async_calls_share_the_rules_and_ask_the_database_rarely(server: str, settings: Any) -> None:
    settings.HOST_MAP = {HOST: server}

    async def scenario() -> None:
        the_door = HttpDoor()
        await asyncio.gather(*(the_door.acall(request(rate=Rate(1000, 1000))) for _ in range(30)))
        with pytest.raises(HttpFailure) as caught:
            await the_door.acall(request(url="https://evil.example/"))
        assert caught.value.kind is Kind.REFUSED
        await the_door.aclose()

    asyncio.run(scenario())
    close_db_threads()
    assert OutboundCall.objects.filter(status=200).count() == 30
    spent = 1000 - TokenBucket.objects.get().tokens
    assert 30 <= spent <= 1000


@pytest.mark.django_db(transaction=True)
def test_async_failures_open_the_breaker_for_everybody() -> None:
    async def scenario() -> list[Kind]:
        kinds: list[Kind] = []
        the_door = always(500)
        for _ in range(6):
            try:
                await the_door.acall(request())
            except HttpFailure as failure:
                kinds.append(failure.kind)
        await the_door.aclose()
        return kinds

    assert asyncio.run(scenario()) == [Kind.TRANSIENT] * 5 + [Kind.BREAKER_OPEN]
    limits.forget_copies()
    assert failure_of(always(200), request()).kind is Kind.BREAKER_OPEN
    reset_breaker("acct:1")

    async def again() -> int:
        the_door = always(200)
        answer = await the_door.acall(request())
        await the_door.aclose()
        return answer.status

    assert asyncio.run(again()) == 200
    close_db_threads()
