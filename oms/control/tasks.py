"""Background work of the top floor. Loading this module names the job handlers."""

from __future__ import annotations

from oms.control import exports
from oms.control.imports import running
from oms.control.kpis import rollup
from oms.control.webhooks import sending
from oms.core.clock import business_day
from oms.core.doorbell import periodic, ring

__all__ = ["roll_up_kpis", "roll_up_sync", "running"]


@periodic(seconds=600)
def roll_up_kpis(subject: str = "") -> None:
    """Count the figures of the last days, and some older ones in turn, so that late data is noticed within days."""
    if not rollup.refresh():
        ring("oms.control.tasks.roll_up_kpis")


def send_webhooks(subject: str) -> None:
    sending.drain(int(subject))


@periodic(seconds=5)
def ring_webhooks(subject: str) -> None:
    sending.ring_due()


@periodic(seconds=3600)
def forget_webhooks(subject: str) -> None:
    sending.forget()


@periodic(seconds=60)
def roll_up_sync(subject: str = "") -> None:
    """How fast channels follow today is asked for while it happens."""
    rollup.count("sync", business_day(), business_day())


@periodic(seconds=60)
def plan_exports(subject: str = "") -> None:
    """Scheduled files whose time has come; the writing is a task of its own."""
    if exports.plan_due():
        ring("oms.control.tasks.write_exports")


@periodic(seconds=300)
def write_exports(subject: str = "") -> None:
    """Write what is planned; every few minutes also what a dead worker left."""
    exports.write_due()


@periodic(seconds=3600)
def tidy_exports(subject: str = "") -> None:
    exports.tidy()
