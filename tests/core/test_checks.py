"""I01: what must always be true is looked at every night and on demand; what fails is listed and told."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.test import Client

from inventory.models import StockLevel
from oms.core import checks, jobs
from oms.core.actor import SYSTEM
from oms.core.clock import business_zone
from oms.core.invariants import all_invariants
from oms.core.models import ExceptionItem, Job
from tests.factories import add_stock, make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db


def checked() -> Job:
    job = checks.begin(actor=SYSTEM)
    jobs.run_job(job.pk)
    job.refresh_from_db()
    assert job.state == "done"
    return job


def test_a_balance_written_by_hand_is_listed_told_and_closed_when_it_holds_again():
    add_stock(make_sku("GUARD"), make_warehouse("EAST"), 10)
    clean = checked()
    assert (clean.failed, clean.rows.count(), clean.result["broken"]) == (0, len(all_invariants()), 0)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE inventory_stocklevel SET on_hand = 12")
    broken = checked()
    assert "S2" in set(broken.rows.filter(ok=False).values_list("subject", flat=True))
    assert any(
        "on_hand is 12, its movements sum to 10" in row.message for row in broken.rows.filter(ok=False)
    )
    item = ExceptionItem.objects.get(dedup_key="invariant:S2", closed_at=None)
    assert item.url == f"/jobs/{broken.pk}/" and "on_hand is 12" in item.detail
    with connection.cursor() as cursor:
        cursor.execute("UPDATE inventory_stocklevel SET on_hand = 10")
    assert checked().failed == 0
    item.refresh_from_db()
    assert item.closed_at is not None and StockLevel.objects.get().on_hand == 10


def test_once_a_night():
    night = dt.datetime.now(business_zone()).replace(hour=3, minute=10) + dt.timedelta(days=1)
    assert checks.nightly(night.replace(hour=2)) is None
    first = checks.nightly(night)
    assert first is not None and first.created_by == "task:nightly check"
    Job.objects.filter(pk=first.pk).update(created_at=night)
    assert checks.nightly(night + dt.timedelta(hours=5)) is None
    assert checks.nightly(night + dt.timedelta(days=1)) is not None


def test_a_person_asks_for_it_on_the_system_page():
    client = Client()
    client.force_login(make_user())
    assert "Not looked at yet" in client.get("/settings/system/").content.decode()
    answer = client.post("/settings/system/check/")
    job = Job.objects.get(kind=checks.KIND)
    assert answer["Location"] == f"/jobs/{job.pk}/"
    jobs.run_job(job.pk)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "S2" in page and "Every balance equals the sum of its ledger rows" in page
    assert "all hold" in client.get("/settings/system/").content.decode()
