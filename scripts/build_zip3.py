"""Write the centre of every 3-digit US postal prefix to fulfillment/carriers/table_rate/zip3_centroids.json.

Run once, when postal prefixes change, in an environment of its own:

    python -m venv /tmp/zips && /tmp/zips/bin/pip install zipcodes==3.0.0
    /tmp/zips/bin/python scripts/build_zip3.py

Source: the `zipcodes` package (MIT). A centre is the median of the coordinates of the prefix's ZIP codes,
to a hundredth of a degree (about a kilometre). The product reads only the file.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import median

import zipcodes  # type: ignore[import-not-found]

TARGET = Path(__file__).resolve().parent.parent / "fulfillment/carriers/table_rate/zip3_centroids.json"
#: their prefixes have no place; see zones.py
MILITARY = ("AA", "AE", "AP")


def main() -> None:
    places: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in zipcodes.list_all():
        point = float(row["lat"] or 0), float(row["long"] or 0)
        if any(point) and row["state"] not in MILITARY:  # 0, 0 stands for "not known"
            places[row["zip_code"][:3]].append(point)
    centres = {
        prefix: [round(median(axis), 2) for axis in zip(*points, strict=True)]
        for prefix, points in sorted(places.items())
    }
    TARGET.write_text(json.dumps(centres, separators=(",", ":")) + "\n", encoding="ascii")
    print(f"{len(centres)} prefixes, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
