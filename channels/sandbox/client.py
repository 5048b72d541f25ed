"""A client of the control API, for tests, the demo and the benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx


class SandboxRefused(Exception):
    """The sandbox said no; the text is its sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class SandboxClient:
    """Speaks to a sandbox at `url` (for example http://127.0.0.1:8790). Every method raises SandboxRefused."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self.http = httpx.Client(base_url=f"{self.url}/_sandbox", timeout=timeout, trust_env=False)

    def __enter__(self) -> SandboxClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.http.close()

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> Any:
        """One request; the answer as JSON."""
        params = {name: value for name, value in query.items() if value is not None}
        answer = self.http.request(method, path, json=body, params=params)
        data = answer.json()
        if answer.status_code >= 400:
            raise SandboxRefused(answer.status_code, data.get("error") or data.get("reason") or str(data))
        return data

    # --- the world ----------------------------------------------------------------------------------
    def health(self) -> dict[str, Any]:
        return self.call("GET", "/health")

    def wait_ready(self, seconds: float = 10.0) -> None:
        """Wait until the sandbox answers. Raises SandboxRefused when it does not in time."""
        until = time.monotonic() + seconds
        while True:
            try:
                self.health()
                return
            except httpx.TransportError as error:
                if time.monotonic() > until:
                    raise SandboxRefused(0, f"No sandbox answers at {self.url}: {error}") from error
                time.sleep(0.05)

    def reset(self) -> None:
        self.call("POST", "/reset")

    def host_map(self) -> dict[str, str]:
        """The value for OMS_HOST_MAP."""
        return self.call("GET", "/host_map")

    def advance(self, seconds: float) -> float:
        """Move the sandbox's clock forward; returns its time in seconds since 1970."""
        return float(self.call("POST", "/clock", {"advance_seconds": seconds})["now"])

    def set_physical(self, units: dict[str, int]) -> dict[str, Any]:
        """Declare how many real units exist per SKU, for the oversell counter."""
        return self.call("PUT", "/physical", units)

    def oversold(self) -> dict[str, Any]:
        return self.call("GET", "/oversold")

    def stats(self) -> dict[str, Any]:
        return self.call("GET", "/stats")

    # --- shops --------------------------------------------------------------------------------------
    def create_shop(self, kind: str, shop_id: str, **spec: Any) -> dict[str, Any]:
        return self.call("POST", "/shops", {"kind": kind, "id": shop_id, **spec})

    def shop(self, shop_id: str) -> dict[str, Any]:
        return self.call("GET", f"/shops/{quote(shop_id)}")

    def shops(self) -> list[dict[str, Any]]:
        return self.call("GET", "/shops")["shops"]

    def delete_shop(self, shop_id: str) -> None:
        self.call("DELETE", f"/shops/{quote(shop_id)}")

    def set_settings(self, shop_id: str, **settings: Any) -> dict[str, Any]:
        return self.call("PUT", f"/shops/{quote(shop_id)}/settings", settings)

    def add_items(self, shop_id: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        return self.call("POST", f"/shops/{quote(shop_id)}/catalogue", {"items": items})

    def stock(self, shop_id: str, sku: str | None = None) -> dict[str, Any]:
        return self.call("GET", f"/shops/{quote(shop_id)}/stock", sku=sku)

    def available(self, shop_id: str, sku: str) -> int:
        """What the shop shows as available for one SKU, over all its locations."""
        return int(self.stock(shop_id, sku)[sku]["available"])

    def set_stock(self, shop_id: str, sku: str, quantity: int, location: str = "") -> dict[str, Any]:
        """Edit the figure on the channel itself, behind our back."""
        return self.call(
            "POST", f"/shops/{quote(shop_id)}/stock", {"sku": sku, "quantity": quantity, "location": location}
        )

    def set_fba(self, shop_id: str, sku: str, **pool: int) -> dict[str, Any]:
        return self.call("POST", f"/shops/{quote(shop_id)}/fba", {"sku": sku, **pool})

    def expire_token(self, shop_id: str) -> dict[str, Any]:
        return self.call("POST", f"/shops/{quote(shop_id)}/expire_token")

    # --- orders -------------------------------------------------------------------------------------
    def place_order(self, shop_id: str, lines: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        """A buyer checks out. SandboxRefused with status 409 when the listed stock does not suffice."""
        return self.call("POST", f"/shops/{quote(shop_id)}/orders", {"lines": lines, **options})

    def order(self, shop_id: str, order_id: str) -> dict[str, Any]:
        return self.call("GET", f"/shops/{quote(shop_id)}/orders/{quote(order_id, safe='')}")

    def orders(self, shop_id: str, limit: int = 1000) -> list[dict[str, Any]]:
        return self.call("GET", f"/shops/{quote(shop_id)}/orders", limit=limit)["orders"]

    def act(self, shop_id: str, order_id: str, action: str, **body: Any) -> dict[str, Any]:
        """pay, cancel, request_cancel, edit, address, hold, release, deliver, ship, return, touch."""
        return self.call("POST", f"/shops/{quote(shop_id)}/orders/{quote(order_id, safe='')}/{action}", body)

    def fulfilments(self, shop_id: str) -> list[dict[str, Any]]:
        return self.call("GET", f"/shops/{quote(shop_id)}/fulfilments")["fulfilments"]

    def refunds(self, shop_id: str) -> list[dict[str, Any]]:
        return self.call("GET", f"/shops/{quote(shop_id)}/refunds")["refunds"]

    def returns(self, shop_id: str) -> list[dict[str, Any]]:
        return self.call("GET", f"/shops/{quote(shop_id)}/returns")["returns"]

    # --- faults, journal, webhooks --------------------------------------------------------------------
    def faults(self, shop_id: str, **faults: Any) -> dict[str, Any]:
        return self.call("PUT", f"/shops/{quote(shop_id)}/faults", faults)

    def clear_faults(self, shop_id: str) -> dict[str, Any]:
        return self.call("DELETE", f"/shops/{quote(shop_id)}/faults")

    def plan_fault(
        self, shop_id: str, kind: str, operation: str = "", times: int = 1, code: str = ""
    ) -> dict[str, Any]:
        body = {"kind": kind, "operation": operation, "times": times, "code": code}
        return self.call("POST", f"/shops/{quote(shop_id)}/planned_faults", body)

    def requests(self, shop_id: str, operation: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        return self.call("GET", f"/shops/{quote(shop_id)}/requests", operation=operation, limit=limit)[
            "requests"
        ]

    def clear_requests(self, shop_id: str) -> None:
        self.call("DELETE", f"/shops/{quote(shop_id)}/requests")

    def deliveries(self, **filters: Any) -> list[dict[str, Any]]:
        """Webhooks sent; filter by shop, topic, state, order_id, limit."""
        return self.call("GET", "/deliveries", **filters)["deliveries"]

    def resend(self, number: int, times: int = 1) -> dict[str, Any]:
        return self.call("POST", f"/deliveries/{number}/resend", {"times": times})

    def notify(
        self, shop_id: str, order_id: str, *, topic: str | None = None, event: str = "updated", times: int = 1
    ) -> None:
        body = {"order_id": order_id, "event": event, "times": times, **({"topic": topic} if topic else {})}
        self.call("POST", f"/shops/{quote(shop_id)}/notify", body)

    def queue(self, shop_id: str) -> list[dict[str, Any]]:
        return self.call("GET", f"/shops/{quote(shop_id)}/queue")["messages"]

    # --- 3PLs -----------------------------------------------------------------------------------------
    def threepl(self, shop_id: str) -> dict[str, Any]:
        """The 3PL's own books: orders, holdings, recounts."""
        return self.call("GET", f"/threepl/{quote(shop_id)}")

    def threepl_act(self, shop_id: str, action: str, **body: Any) -> dict[str, Any]:
        """ack, ship, refuse, notice, stock, adjust, snapshot, hold, release, tell."""
        return self.call("POST", f"/threepl/{quote(shop_id)}/{action}", body)

    # --- Amazon's Multi-Channel Fulfillment ------------------------------------------------------------
    def outbound(self, shop_id: str) -> list[dict[str, Any]]:
        """Fulfillment orders in Amazon's own books."""
        return list(self.call("GET", f"/outbound/{quote(shop_id)}")["orders"])

    def outbound_act(self, shop_id: str, order: str, action: str, **body: Any) -> dict[str, Any]:
        """ship, plan, give_up, invalid, cancel."""
        return self.call("POST", f"/outbound/{quote(shop_id)}/{quote(order)}/{action}", body)

    # --- shoppers -----------------------------------------------------------------------------------
    def start_shoppers(self, **spec: Any) -> int:
        """rate_per_second, seed, weights {shop: n}, skus {sku: n}, max_orders, lines_max, quantity_max, pending_share,
        risk_share. Returns the number of the generator."""
        return int(self.call("POST", "/shoppers", spec)["number"])

    def shoppers(self, number: int) -> dict[str, Any]:
        return self.call("GET", f"/shoppers/{number}")

    def stop_shoppers(self, number: int) -> dict[str, Any]:
        return self.call("DELETE", f"/shoppers/{number}")

    def wait_until(self, ready: Callable[[], bool], seconds: float = 10.0) -> bool:
        """Poll until `ready()`; False when it did not become true in time."""
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True
