"""Generated buyers: the n-th order of a generator depends only on its seed, its timing on its rate."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from channels.sandbox.shop import SandboxError, Shop

if TYPE_CHECKING:
    from channels.sandbox.world import World

FIRST = [
    "Ada",
    "Ben",
    "Carla",
    "Dana",
    "Elif",
    "Femi",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Liam",
    "Mona",
    "Noor",
    "Oskar",
]
LAST = [
    "Adler",
    "Brooks",
    "Costa",
    "Diaz",
    "Evans",
    "Fischer",
    "Garcia",
    "Hansen",
    "Ito",
    "Jensen",
    "Khan",
    "Lopez",
    "Meyer",
]
STREETS = ["Maple Ave", "Oak St", "Cedar Ln", "River Rd", "Hill St", "Lake Dr", "Elm St", "Park Ave"]
PLACES = [
    ("New York", "NY", "10001", "US"),
    ("Boston", "MA", "02108", "US"),
    ("Atlanta", "GA", "30303", "US"),
    ("Miami", "FL", "33101", "US"),
    ("Chicago", "IL", "60601", "US"),
    ("Austin", "TX", "78701", "US"),
    ("Denver", "CO", "80202", "US"),
    ("Phoenix", "AZ", "85004", "US"),
    ("Seattle", "WA", "98101", "US"),
    ("Portland", "OR", "97201", "US"),
    ("San Francisco", "CA", "94103", "US"),
    ("Los Angeles", "CA", "90012", "US"),
]


def buyer(dice: random.Random) -> dict[str, Any]:
    """A person with an address in the United States."""
    first, last = dice.choice(FIRST), dice.choice(LAST)
    city, state, postcode, country = dice.choice(PLACES)
    phone = f"+1 555 01{dice.randrange(100):02d}"
    return {
        "address": {
            "name": f"{first} {last}",
            "first_name": first,
            "last_name": last,
            "address1": f"{dice.randrange(1, 990)} {dice.choice(STREETS)}",
            "city": city,
            "province_code": state,
            "zip": postcode,
            "country_code": country,
            "phone": phone,
        },
        "email": f"{first}.{last}@example.com".lower(),
        "phone": phone,
    }


@dataclass
class Shoppers:
    """One running generator."""

    number: int
    world: World
    rate: float  # orders per second; 0 = as fast as the sandbox can
    seed: int
    weights: dict[str, float]  # by shop id
    skus: dict[str, float]  # by SKU; empty = every SKU alike
    most: int  # orders in all; 0 = until stopped
    lines: int
    units: int
    pending_share: float
    risk_share: float
    dice: random.Random = field(default_factory=random.Random)
    asked: int = 0
    placed: int = 0
    lost: int = 0
    running: bool = True
    task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        begin, first = loop.time(), True
        while self.running and not (self.most and self.asked >= self.most):
            if self.rate and not first:
                wait = begin + self.asked / self.rate - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
            first = False
            self.step()
            if not self.rate or self.asked % 20 == 0:
                await asyncio.sleep(0)  # let requests in between
        self.running = False

    def step(self) -> None:
        """One buyer tries to buy."""
        self.asked += 1
        shop = self.world.shops.get(self.dice.choices(list(self.weights), list(self.weights.values()))[0])
        spec = buyer(self.dice)
        if shop is None:
            return
        spec["payment"] = "pending" if self.dice.random() < self.pending_share else "paid"
        spec["risk"] = "high" if self.dice.random() < self.risk_share else "low"
        spec["lines"] = self._basket(shop)
        if not spec["lines"]:
            return
        if isinstance(shop.place(spec), str):
            self.lost += 1
        else:
            self.placed += 1

    def _basket(self, shop: Shop) -> list[dict[str, Any]]:
        names = [sku for sku in (self.skus or shop.items) if sku in shop.items]
        if not names:
            return []
        weights = [self.skus.get(sku, 1.0) for sku in names]
        chosen: dict[str, int] = {}
        for _ in range(self.dice.randint(1, self.lines)):
            sku = self.dice.choices(names, weights)[0]
            same = not chosen or (shop.items[sku].fba is None) == (shop.items[next(iter(chosen))].fba is None)
            if same:  # an order is shipped by the channel or by the merchant, never by both
                chosen[sku] = chosen.get(sku, 0) + self.dice.randint(1, self.units)
        return [{"sku": sku, "quantity": quantity} for sku, quantity in chosen.items()]

    def describe(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "running": self.running,
            "asked": self.asked,
            "placed": self.placed,
            "lost": self.lost,
            "rate_per_second": self.rate,
            "seed": self.seed,
        }


def _selling(world: World) -> dict[str, int]:
    """Every shop alike; a 3PL sells nothing."""
    return {name: 1 for name, shop in world.shops.items() if shop.kind != "threepl"}


def start(world: World, spec: dict[str, Any]) -> Shoppers:
    """Start a generator. Raises SandboxError when a shop is unknown or a figure makes no sense."""
    weights = {str(shop): float(weight) for shop, weight in (spec.get("weights") or _selling(world)).items()}
    unknown = [shop for shop in weights if shop not in world.shops]
    if unknown or not weights:
        raise SandboxError(
            f"weights must name existing shops; unknown: {', '.join(unknown) or 'there is no shop yet'}."
        )
    rate, most = float(spec.get("rate_per_second", 1)), int(spec.get("max_orders", 0))
    if rate < 0 or (rate == 0 and not most):
        raise SandboxError(
            "rate_per_second must be above 0; with 0 (as fast as possible) max_orders is needed."
        )
    seed = int(spec.get("seed", 1))
    shoppers = Shoppers(
        number=world.serial("shoppers"),
        world=world,
        rate=rate,
        seed=seed,
        weights=weights,
        skus={str(sku): float(weight) for sku, weight in (spec.get("skus") or {}).items()},
        most=most,
        lines=max(1, int(spec.get("lines_max", 2))),
        units=max(1, int(spec.get("quantity_max", 2))),
        pending_share=float(spec.get("pending_share", 0)),
        risk_share=float(spec.get("risk_share", 0)),
        dice=random.Random(seed),
    )
    world.shoppers[shoppers.number] = shoppers
    shoppers.task = asyncio.get_running_loop().create_task(shoppers.run())
    return shoppers


def stop_all(world: World) -> None:
    for shoppers in world.shoppers.values():
        shoppers.running = False
        if shoppers.task is not None:
            shoppers.task.cancel()
    world.shoppers.clear()
