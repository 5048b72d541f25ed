"""Counters of this process, shown at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

REGISTRY = CollectorRegistry(auto_describe=True)

CONFLICTS = Counter("lading_lock_conflicts", "Transactions repeated after a lock conflict", registry=REGISTRY)
EVENTS = Counter(
    "lading_outbox_events", "Outbox events by what became of them", ["outcome"], registry=REGISTRY
)
TASKS = Counter("lading_tasks", "Tasks run by this process", ["task", "outcome"], registry=REGISTRY)
CALLS = Counter("lading_outbound_calls", "Requests to other systems", ["outcome"], registry=REGISTRY)
CALL_SECONDS = Histogram(
    "lading_outbound_seconds", "Duration of requests to other systems", registry=REGISTRY
)
