"""How each kind of partner is reached. A floor above may bring its own way, by the kind's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fulfillment.models import ThreePLAccount
from fulfillment.threepl import client


class Transport(Protocol):
    """The calls of `fulfillment.threepl.client`, and what follows from an answer. They raise `HttpFailure`."""

    #: a cancellation takes back the whole hand-off; what is still wanted is handed over anew
    CANCELS_WHOLE: bool
    #: what is refused goes to another warehouse without a person
    REROUTES: bool

    def ping(self, account: ThreePLAccount, /) -> dict[str, Any]: ...

    def send_order(self, account: ThreePLAccount, order: Mapping[str, Any], key: str, /) -> str: ...

    def find_orders(self, account: ThreePLAccount, reference: str, /) -> list[dict[str, Any]]: ...

    def cancel(
        self, account: ThreePLAccount, external_id: str, body: Mapping[str, Any], key: str, /
    ) -> None: ...

    def recount(self, account: ThreePLAccount, body: Mapping[str, Any], key: str, /) -> None: ...


_BY_KIND: dict[str, Transport] = {ThreePLAccount.Kind.API.value: client}


def register(kind: str, transport: Transport) -> None:
    _BY_KIND[kind] = transport


def kinds() -> tuple[str, ...]:
    """Kinds of accounts that are called, unlike those that exchange files."""
    return tuple(_BY_KIND)


def of(account: ThreePLAccount) -> Transport | None:
    """None where files are exchanged."""
    return _BY_KIND.get(account.kind)
