"""Steps of one object, held against the description: see drawing.py."""

from __future__ import annotations

from typing import Any

import pytest

from oms.core.api.auth import TokenThrottle
from tests.api.drawing import EACH, explore

pytestmark = [pytest.mark.django_db, pytest.mark.once, pytest.mark.timeout(900)]


def chosen(operation: Any) -> bool:
    return operation.method.lower() == "post" and "{" in operation.path


def test_described_answers_to_drawn_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TokenThrottle, "rate", "1000000/min", raising=False)
    world = explore(chosen)
    assert not world.failures, "\n\n".join(f"{name}\n{told}" for name, told in world.failures.items())
    assert sum(world.sent.values()) >= len(world.sent) * EACH * 2 // 3
