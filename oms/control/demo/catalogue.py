"""The brand's catalogue as plain data, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256

MOTIFS = ("Anchor", "Lighthouse", "Pine", "Wave", "Gull", "Compass", "Fern", "Whale")
FINISHES = {"NAT": "natural", "BLK": "black", "BRS": "brass"}
COLOURS = {"BLU": "Blue", "GRN": "Green", "SND": "Sand", "RST": "Rust", "WHT": "White", "CHR": "Charcoal"}
SIZES = ("XS", "S", "M", "L", "XL")
SCENTS = (
    "Cedar",
    "Sea salt",
    "Fig",
    "Amber",
    "Linen",
    "Rosemary",
    "Smoke",
    "Citrus",
    "Lavender",
    "Moss",
    "Vanilla",
    "Tobacco",
)


@dataclass(frozen=True)
class Item:
    """One SKU of the demo: weights in grams, sizes in millimetres, money in US dollars."""

    code: str
    product: str
    title: str
    category: str
    motif: str
    price: Decimal
    cost: Decimal
    weight_g: int
    size_mm: tuple[int, int, int]
    hs_code: str
    popularity: float  # share of demand before seasons
    options: dict[str, str] = field(default_factory=dict)
    parts: tuple[tuple[str, int], ...] = ()  # kit components

    @property
    def gtin(self) -> str:
        """A valid EAN-13 in the range reserved for restricted circulation (GS1 prefix 20–29)."""
        digits = f"20{int(sha256(self.code.encode()).hexdigest()[:12], 16) % 10**10:010d}"
        total = sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(digits))
        return digits + str(-total % 10)


def _d(text: str) -> Decimal:
    return Decimal(text)


def items() -> Iterator[Item]:
    """Every SKU, kits last."""
    plain = list(_plain())
    yield from plain
    known = {item.code for item in plain}
    for kit in _kits():
        assert all(code in known for code, _ in kit.parts), kit.code
        yield kit


def _plain() -> Iterator[Item]:
    for index, motif in enumerate(MOTIFS):
        short = motif[:3].upper()
        for colour in ("BLU", "GRN", "SND", "WHT"):
            yield Item(
                f"MUG-{short}-{colour}",
                f"{motif} mug",
                f"{motif} mug, {COLOURS[colour].lower()}",
                "Kitchen",
                "mug",
                _d("18.00"),
                _d("3.10"),
                380,
                (110, 110, 105),
                "691200",
                3.2 / (1 + index * 0.6),
                {"Colour": COLOURS[colour]},
            )
    for index, motif in enumerate(MOTIFS[:6]):
        short = motif[:3].upper()
        for colour in ("BLU", "GRN", "SND", "CHR"):
            for size in SIZES:
                yield Item(
                    f"TEE-{short}-{colour}-{size}",
                    f"{motif} tee",
                    f"{motif} tee, {COLOURS[colour].lower()}, {size}",
                    "Apparel",
                    "tee",
                    _d("32.00"),
                    _d("7.40"),
                    190,
                    (280, 220, 25),
                    "610910",
                    {"XS": 0.3, "S": 0.8, "M": 1.2, "L": 1.1, "XL": 0.6}[size] / (1 + index * 0.5),
                    {"Colour": COLOURS[colour], "Size": size},
                )
    for index, motif in enumerate(MOTIFS[:3]):
        short = motif[:3].upper()
        for colour in ("BLU", "CHR", "RST"):
            for size in SIZES:
                yield Item(
                    f"HOOD-{short}-{colour}-{size}",
                    f"{motif} hoodie",
                    f"{motif} hoodie, {COLOURS[colour].lower()}, {size}",
                    "Apparel",
                    "hoodie",
                    _d("68.00"),
                    _d("19.50"),
                    620,
                    (340, 280, 60),
                    "611020",
                    0.5 / (1 + index * 0.4),
                    {"Colour": COLOURS[colour], "Size": size},
                )
    for index, scent in enumerate(SCENTS):
        short = scent.replace(" ", "")[:4].upper()
        for grams, price, cost in ((200, "24.00", "5.20"), (450, "42.00", "9.60")):
            yield Item(
                f"CND-{short}-{grams}",
                f"{scent} candle",
                f"{scent} candle, {grams} g",
                "Home",
                "candle",
                _d(price),
                _d(cost),
                grams + 210,
                (90, 90, 100),
                "340600",
                2.2 / (1 + index * 0.35),
                {"Size": f"{grams} g"},
            )
    for index, name in enumerate(("Harbour", "Dune", "Forest", "Storm", "Oat", "Heather")):
        for size in ("130", "180"):
            yield Item(
                f"THR-{name[:3].upper()}-{size}",
                f"{name} throw",
                f"{name} wool throw, {size} cm",
                "Home",
                "throw",
                _d("94.00") if size == "130" else _d("139.00"),
                _d("31.00"),
                1250,
                (360, 300, 120),
                "630120",
                0.5 / (1 + index * 0.3),
                {"Size": f"{size} cm"},
            )
    for index, motif in enumerate(MOTIFS):
        for ruling in ("Lined", "Dot"):
            yield Item(
                f"NTB-{motif[:3].upper()}-{ruling[:3].upper()}",
                f"{motif} notebook",
                f"{motif} notebook, {ruling.lower()}",
                "Paper",
                "notebook",
                _d("16.00"),
                _d("3.80"),
                310,
                (215, 150, 18),
                "482010",
                1.0 / (1 + index * 0.3),
                {"Ruling": ruling},
            )
    for index, colour in enumerate(COLOURS):
        for size in ("500", "750"):
            yield Item(
                f"BTL-{colour}-{size}",
                "Steel bottle",
                f"Steel bottle, {COLOURS[colour].lower()}, {size} ml",
                "Kitchen",
                "bottle",
                _d("29.00"),
                _d("8.10"),
                360,
                (75, 75, 260),
                "732393",
                1.4 / (1 + index * 0.4),
                {"Colour": COLOURS[colour], "Size": f"{size} ml"},
            )
    for index, motif in enumerate(MOTIFS):
        yield Item(
            f"TOTE-{motif[:3].upper()}",
            f"{motif} tote",
            f"{motif} canvas tote",
            "Bags",
            "tote",
            _d("26.00"),
            _d("5.60"),
            240,
            (380, 300, 20),
            "420292",
            1.1 / (1 + index * 0.3),
        )
    for index, motif in enumerate(MOTIFS[:6]):
        for colour in ("BLU", "CHR", "SND"):
            yield Item(
                f"CAP-{motif[:3].upper()}-{colour}",
                f"{motif} cap",
                f"{motif} cap, {COLOURS[colour].lower()}",
                "Apparel",
                "cap",
                _d("28.00"),
                _d("6.20"),
                110,
                (260, 180, 120),
                "650500",
                0.7 / (1 + index * 0.4),
                {"Colour": COLOURS[colour]},
            )
    for index, name in enumerate(
        ("Stripe", "Cable", "Ragg", "Hike", "Deck", "Island", "Tweed", "Snow", "Reef", "Moor")
    ):
        for size in ("36-39", "40-43", "44-47"):
            yield Item(
                f"SCK-{name[:4].upper()}-{size[:2]}",
                f"{name} socks",
                f"{name} socks, {size}",
                "Apparel",
                "socks",
                _d("14.00"),
                _d("2.90"),
                80,
                (200, 110, 35),
                "611595",
                0.9 / (1 + index * 0.25),
                {"Size": size},
            )
    for index in range(20):
        name = f"Coast print {index + 1}"
        for size, price in (("A3", "28.00"), ("A2", "45.00")):
            yield Item(
                f"PRT-{index + 1:02d}-{size}",
                name,
                f"{name}, {size}",
                "Paper",
                "print",
                _d(price),
                _d("4.40"),
                260,
                (460, 70, 70),
                "491191",
                0.5 / (1 + index * 0.15),
                {"Size": size},
            )
    for index, motif in enumerate(MOTIFS):
        for size in ("45", "60"):
            yield Item(
                f"CSH-{motif[:3].upper()}-{size}",
                f"{motif} cushion",
                f"{motif} cushion, {size} cm",
                "Home",
                "cushion",
                _d("48.00"),
                _d("13.20"),
                720,
                (450, 450, 130),
                "940490",
                0.5 / (1 + index * 0.3),
                {"Size": f"{size} cm"},
            )
    for index, name in enumerate(("Waffle", "Herringbone", "Stripe", "Plain")):
        for colour in ("BLU", "SND", "WHT", "GRN"):
            for size in ("Hand", "Bath"):
                yield Item(
                    f"TWL-{name[:3].upper()}-{colour}-{size[0]}",
                    f"{name} towel",
                    f"{name} {size.lower()} towel, {COLOURS[colour].lower()}",
                    "Bath",
                    "towel",
                    _d("22.00") if size == "Hand" else _d("46.00"),
                    _d("9.30"),
                    420,
                    (320, 240, 80),
                    "630260",
                    0.6 / (1 + index * 0.4),
                    {"Colour": COLOURS[colour], "Size": size},
                )
    for index, name in enumerate(
        (
            "Breakfast",
            "Harbour",
            "Smoky",
            "Mint",
            "Ginger",
            "Earl Grey",
            "Oolong",
            "Sencha",
            "Rooibos",
            "Chai",
        )
    ):
        for grams in (100, 250):
            yield Item(
                f"TEA-{name.replace(' ', '')[:4].upper()}-{grams}",
                f"{name} tea",
                f"{name} tea, {grams} g",
                "Pantry",
                "tea",
                _d("12.00") if grams == 100 else _d("24.00"),
                _d("2.70"),
                grams + 60,
                (120, 90, 70),
                "090230",
                0.9 / (1 + index * 0.25),
                {"Size": f"{grams} g"},
            )
    for index, name in enumerate(
        (
            "Lantern",
            "Deck hook",
            "Rope tray",
            "Oak board",
            "Linen apron",
            "Match jar",
            "Soap dish",
            "Brass bell",
        )
    ):
        for finish in FINISHES:
            yield Item(
                f"{name.split()[0][:4].upper()}-{finish}",
                name,
                f"{name}, {FINISHES[finish]}",
                "Home",
                "lantern",
                _d("38.00"),
                _d("11.00"),
                540,
                (220, 160, 120),
                "830629",
                0.4 / (1 + index * 0.2),
                {"Finish": finish},
            )
    for index, name in enumerate(("Oat", "Seaweed", "Pine tar", "Honey", "Charcoal", "Clay")):
        for pack in (1, 3):
            yield Item(
                f"SOAP-{name.replace(' ', '')[:4].upper()}-{pack}",
                f"{name} soap",
                f"{name} soap, {pack} bar{'s' * (pack > 1)}",
                "Bath",
                "soap",
                _d("9.00") * pack - pack + 1,
                _d("1.60") * pack,
                115 * pack,
                (80, 55, 30 * pack),
                "340111",
                1.3 / (1 + index * 0.3),
                {"Pack": str(pack)},
            )
    for index in range(12):
        name = f"Harbour puzzle {index + 1}"
        for pieces in (500, 1000):
            yield Item(
                f"PZL-{index + 1:02d}-{pieces}",
                name,
                f"{name}, {pieces} pieces",
                "Games",
                "puzzle",
                _d("34.00"),
                _d("8.80"),
                780,
                (330, 240, 60),
                "950300",
                0.4 / (1 + index * 0.2),
                {"Pieces": str(pieces)},
            )
    for index, name in enumerate(("Stone", "Moss", "Chalk", "Terracotta", "Ink", "Shell")):
        for size in ("12", "16", "22"):
            yield Item(
                f"POT-{name[:3].upper()}-{size}",
                f"{name} pot",
                f"{name} plant pot, {size} cm",
                "Garden",
                "pot",
                _d("21.00"),
                _d("6.00"),
                int(size) * 85,
                (int(size) * 10, int(size) * 10, int(size) * 10),
                "691490",
                0.5 / (1 + index * 0.3),
                {"Size": f"{size} cm"},
            )


def _kits() -> Iterator[Item]:
    def kit(code: str, title: str, price: str, share: float, *parts: tuple[str, int]) -> Item:
        return Item(
            code, title, title, "Gift sets", "gift", _d(price), _d("0"), 0, (0, 0, 0), "", share, {}, parts
        )

    for motif in MOTIFS[:6]:
        short = motif[:3].upper()
        yield kit(
            f"SET-MUG2-{short}",
            f"Pair of {motif.lower()} mugs",
            "32.00",
            0.7,
            (f"MUG-{short}-BLU", 1),
            (f"MUG-{short}-SND", 1),
        )
        yield kit(
            f"SET-TEA-{short}",
            f"Morning set, {motif.lower()}",
            "39.00",
            0.5,
            (f"MUG-{short}-WHT", 1),
            ("TEA-BREA-100", 1),
            ("SOAP-OAT-1", 1),
        )
        yield kit(
            f"SET-DESK-{short}",
            f"Desk set, {motif.lower()}",
            "52.00",
            0.3,
            (f"NTB-{short}-LIN", 2),
            (f"MUG-{short}-GRN", 1),
        )
    yield kit(
        "SET-BATH",
        "Bath evening",
        "88.00",
        0.6,
        ("TWL-WAF-SND-B", 1),
        ("CND-LAVE-200", 1),
        ("SOAP-SEAW-1", 2),
    )
    yield kit(
        "SET-COSY",
        "Cosy evening",
        "149.00",
        0.4,
        ("THR-HAR-130", 1),
        ("CND-CEDA-450", 1),
        ("TEA-CHAI-100", 1),
    )
    yield kit(
        "SET-CND3",
        "Three candles",
        "64.00",
        0.9,
        ("CND-CEDA-200", 1),
        ("CND-SEAS-200", 1),
        ("CND-FIG-200", 1),
    )


SUPPLIERS = (
    # code, name, currency, stated lead days, country, categories, MOQ, case
    ("NORTHKILN", "North Kiln Ceramics", "USD", 28, "PT", ("Kitchen", "Garden"), 60, 12),
    ("TWOTHREAD", "Two Thread Apparel", "USD", 35, "TR", ("Apparel", "Bags"), 50, 10),
    ("WICKWORKS", "Wickworks", "USD", 14, "US", ("Home",), 24, 12),
    ("PAPERYARD", "Paperyard Press", "USD", 18, "US", ("Paper", "Games"), 40, 20),
    ("LEAFHOUSE", "Leafhouse Pantry", "USD", 21, "IN", ("Pantry",), 36, 12),
    ("BATHMILL", "Bath Mill", "USD", 42, "IN", ("Bath",), 48, 24),
    ("BACKBAY", "Back Bay Trading", "USD", 10, "US", ("Kitchen", "Home", "Apparel", "Bath"), 12, 6),
)
