"""ARCHITECTURE.md names only files that are there and, where a change begins, only names that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAP = (ROOT / "ARCHITECTURE.md").read_text()
APPS = ("channels", "fulfillment", "inventory", "oms", "procurement", "returns")
FILES = [path for app in APPS for path in (ROOT / app).rglob("*.py")]
CODE = re.compile(r"`([^`\n]+)`")


def _there(name: str) -> bool:
    if "<" in name:
        name = name[: name.index("<")]
    tail = f"/{name}"
    return (ROOT / name).exists() or any(path.as_posix().endswith(tail) for path in FILES)


@pytest.mark.parametrize(
    "name", sorted({name for name in CODE.findall(MAP) if re.fullmatch(r"[\w<>/]+(\.py|/)", name)})
)
def test_each_file_of_the_map_is_there(name: str) -> None:
    assert _there(name), f"ARCHITECTURE.md names {name}"


def test_each_name_where_a_change_begins_is_in_the_code() -> None:
    table = MAP.split("## Where a change begins")[1].split("\n## ")[0]
    names = {name for name in CODE.findall(table) if re.fullmatch(r"@?[A-Za-z_][\w.]*(\(.*\))?", name)}
    names -= {name for name in names if name.endswith(".py")}
    words = {word for path in FILES for word in re.findall(r"\w+", path.read_text())}
    missing = {name for name in names if not set(re.findall(r"\w+", name.partition("(")[0])) <= words}
    assert missing == set()
    assert len(names) > 30
