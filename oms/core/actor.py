"""Who did it. Every service takes an `Actor`; what is stored is its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Actor:
    kind: str  # user, token, rule, task, channel, system
    name: str
    user_id: int | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"[:120]


SYSTEM = Actor("system", "lading")


def task_actor(name: str) -> Actor:
    return Actor("task", name)


def actor_of(principal: Any) -> Actor:
    """The actor behind a request's user or API token."""
    token = getattr(principal, "prefix", None)
    if token:
        return Actor("token", principal.name, principal.user_id)
    return Actor("user", principal.get_username(), principal.pk)
