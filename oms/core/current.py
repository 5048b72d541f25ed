"""What is being done right now, for logs and the audit trail: request id, actor, way in, address."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from oms.core.actor import SYSTEM, Actor


@dataclass(frozen=True)
class Context:
    request_id: str = ""
    actor: Actor = SYSTEM
    via: str = "task"  # ui, api, admin, import, task
    address: str = ""


_context: ContextVar[Context] = ContextVar("lading_context", default=Context())  # noqa: B039 frozen


def context() -> Context:
    return _context.get()


def new_request_id() -> str:
    return uuid.uuid4().hex[:16]


@contextmanager
def acting(**changes: object) -> Iterator[Context]:
    """Change parts of the context for a block: `with acting(actor=…, via="task"):`."""
    token = _context.set(replace(_context.get(), **changes))  # type: ignore[arg-type]
    try:
        yield _context.get()
    finally:
        _context.reset(token)


def set_actor(actor: Actor, via: str = "") -> None:
    """Name the actor once authentication knows it."""
    here = _context.get()
    _context.set(replace(here, actor=actor, via=via or here.via))
