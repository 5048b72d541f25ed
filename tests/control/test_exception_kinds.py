"""Each kind of exception that the product raises has its words for people, and no words stand there for nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from oms.control.selectors import KINDS, kind_label
from oms.core.exceptions_inbox import FOR_THOSE_WHO

ROOT = Path(__file__).resolve().parents[2]
APPS = ("channels", "fulfillment", "inventory", "oms", "procurement", "returns")
DOORS = ("raise_item", "raise_new", "tell_once")
#: kinds that are put together or handed on, by the file that does so
HANDED_ON = {
    "channels/blackbox.py": {"oversell"},
    "channels/effects.py": {"effect_in_doubt", "effect_rejected"},
    "oms/orders/intake.py": {"edited_after_shipping", "shipped_elsewhere"},
}


def raised() -> Iterator[tuple[str, str | None]]:
    """(file, kind) of each call that puts a cause into the inbox; no kind where it is not written there."""
    for app in APPS:
        for path in sorted((ROOT / app).rglob("*.py")):
            text, file = path.read_text(), path.relative_to(ROOT).as_posix()
            if not any(f"{door}(" in text for door in DOORS) or file == "oms/core/exceptions_inbox.py":
                continue
            tree = ast.parse(text)
            constants = {
                target.id: node.value.value
                for node in tree.body
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in DOORS:
                    first = node.args[0]
                    named = constants.get(first.id) if isinstance(first, ast.Name) else None
                    kind = first.value if isinstance(first, ast.Constant) else named
                    yield file, kind if isinstance(kind, str) else None


def test_every_kind_that_is_raised_is_named_and_no_other():
    found = list(raised())
    assert {file for file, kind in found if kind is None} == set(HANDED_ON)
    kinds = {kind for _, kind in found if kind is not None}.union(*HANDED_ON.values())
    assert kinds - set(KINDS) == set(), "give it its words in KINDS, oms/control/selectors.py"
    assert set(KINDS) - kinds == set(), "nothing raises it any more"
    assert set().union(*FOR_THOSE_WHO.values()) - kinds == set(), (
        "hidden from some people, and raised by nobody"
    )


def test_the_handed_on_kinds_stand_in_their_files():
    for file, kinds in HANDED_ON.items():
        text = (ROOT / file).read_text()
        for kind in kinds:
            assert f'"{kind.removeprefix("effect_")}"' in text, (file, kind)


def test_a_kind_of_an_older_version_shows_its_own_name():
    assert kind_label("long_gone") == "Long gone"
    assert kind_label("threepl_no_ack") == "3PL has not acknowledged"
