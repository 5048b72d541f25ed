"""The data-fix desk: everything can be looked at, only master data is edited, files go in and out safely (D01)."""

from __future__ import annotations

import re
from typing import Any

import pytest
import tablib
from django.apps import apps
from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, RequestFactory
from django.urls import reverse

from inventory.admin import BinResource, SkuResource
from inventory.models import Bin, Product, Sku
from oms.control.admin import hidden
from oms.core.admin import MasterDataAdmin, ReadOnlyAdmin
from oms.core.apps import LADING
from oms.core.models import AuditEntry, OutboxEvent, User
from procurement.admin import OfferResource, SupplierResource
from procurement.models import Supplier, SupplierOffer
from tests.access import places
from tests.factories import make_sku, make_user, make_warehouse

pytestmark = pytest.mark.django_db
OURS = [model for model in apps.get_models() if model.__module__.split(".")[0] in LADING]
#: may be changed by hand; everything else is a record or moves only through services
EDITED = {
    "core.User", "core.Membership", "inventory.Product", "inventory.Sku", "inventory.SkuAlias", "inventory.Warehouse",
    "inventory.AdjustmentReason", "inventory.AdjustmentLimit",
    "inventory.Bin", "inventory.Lot", "inventory.RingFence", "orders.SalesChannel", "orders.FxRate",
    "procurement.Supplier", "procurement.SupplierOffer", "procurement.ReplenishmentSetting", "returns.ReturnReason",
    "fulfillment.CarrierAccount",
    "fulfillment.PackageType", "fulfillment.CarrierService", "fulfillment.RateCard", "fulfillment.RateBreak",
    "fulfillment.Surcharge", "fulfillment.ZoneOverride",
}  # fmt: skip


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", password="correct horse battery")


@pytest.fixture
def desk(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


def site_of(model: Any) -> admin.ModelAdmin[Any]:
    return admin.site._registry[model]


def test_every_table_is_on_the_desk_and_only_master_data_is_edited(root: User) -> None:
    request = RequestFactory().get("/admin/")
    request.user = root
    for model in OURS:
        site = site_of(model)
        edited = site.has_change_permission(request)
        assert edited == (model._meta.label in EDITED), model._meta.label
        assert site.show_full_result_count is False, model._meta.label
        if not edited:
            assert isinstance(site, ReadOnlyAdmin)
            assert not site.has_add_permission(request) and not site.has_delete_permission(request)
        relations = {field.name for field in model._meta.concrete_fields if field.is_relation}
        for name in relations & set(map(str, site.list_display)):
            chosen: Any = site.get_list_select_related(request)
            assert chosen is True or name in {str(one).split("__")[0] for one in chosen or ()}, (
                f"{model._meta.label}: list_select_related lacks {name}"
            )
    queues = {model._meta.label for model in admin.site._registry if model._meta.app_label == "django_q"}
    assert {"django_q.OrmQ", "django_q.Failure", "django_q.Success", "django_q.Schedule"} <= queues


def test_every_list_and_row_opens_without_secrets_and_without_inline_code(
    desk: Client, root: User, django_assert_max_num_queries: Any
) -> None:
    """No script, style or handler in the page itself: the policy of the whole product holds here as well."""
    places.objects(root, places.build())
    inline = re.compile(rb"<script(?![^>]*\ssrc=)(?![^>]*application/json)|\son[a-z]+=\"|<style|\sstyle=\"")
    for model in OURS:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        with django_assert_max_num_queries(25):
            listed = desk.get(reverse(f"{name}_changelist"))
        assert listed.status_code == 200, name
        assert not inline.search(listed.content), (name, inline.search(listed.content))
        row = model._default_manager.first()
        if row is None:
            continue
        shown = desk.get(reverse(f"{name}_change", args=[row.pk]))
        assert shown.status_code == 200, name
        assert not inline.search(shown.content), (name, inline.search(shown.content))
        site = site_of(model)
        for field in model._meta.concrete_fields:
            if hidden(field) and isinstance(site, ReadOnlyAdmin):
                assert field.name in (site.exclude or ()), f"{model._meta.label}.{field.name}"
    assert "script-src 'self'" in listed.headers["Content-Security-Policy"]


def test_a_row_leads_back_to_its_screen(desk: Client, root: User) -> None:
    order = places.objects(root, places.build())["orders:number"][0]
    page = desk.get("/admin/orders/order/?q=NS-4711")
    pk = re.search(rb"/admin/orders/order/(\d+)/change/", page.content)
    assert pk is not None
    shown = desk.get(f"/admin/orders/order/{pk[1].decode()}/change/").content.decode()
    assert f'href="/orders/{order}/"' in shown and "View on site" in shown


def test_an_edit_and_a_file_stand_in_the_audit_trail(desk: Client, root: User) -> None:
    supplier = Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=7)
    url = reverse("admin:procurement_supplier_change", args=[supplier.pk])
    form = desk.get(url).context["adminform"].form
    values = {name: "" if form[name].value() is None else form[name].value() for name in form.fields}
    values = {name: value for name, value in values.items() if value is not False}
    assert desk.post(url, {**values, "lead_time_days": 9}).status_code == 302
    entry = AuditEntry.objects.get(action="admin.changed")
    assert (entry.before, entry.after) == ({"lead_time_days": 7}, {"lead_time_days": 9})
    assert (entry.actor, entry.via, entry.object_label) == ("user:root", "admin", str(supplier))


def test_a_file_is_taken_in_two_steps_and_recorded(desk: Client) -> None:
    text = b"code,name,currency,lead_time_days,is_active\nKILN,Kiln,USD,7,1\n"
    upload = SimpleUploadedFile("s.csv", text, "text/csv")
    shown = desk.post(reverse("admin:procurement_supplier_import"), {"import_file": upload, "format": "0"})
    assert shown.status_code == 200 and not Supplier.objects.exists()
    confirm = shown.context["confirm_form"]
    assert desk.post(reverse("admin:procurement_supplier_process_import"), confirm.initial).status_code == 302
    assert Supplier.objects.get().name == "Kiln"
    assert AuditEntry.objects.get(action="admin.imported").after == {
        "model": "procurement.supplier",
        "new": 1,
    }


@pytest.mark.parametrize(
    ("resource", "row", "words"),
    [
        (SupplierResource, {"code": "K", "name": "Kiln", "lead_time_days": "soon"},
         "column 'lead_time_days': 'soon' is not a whole number; write it like 12."),
        (SupplierResource, {"code": "K", "name": "Kiln", "minimum_order": "1,5 kg"},
         "column 'minimum_order': '1,5 kg' is not a number; write it like 12.50."),
        (SupplierResource, {"code": "K", "name": "Kiln", "is_active": "perhaps"},
         "column 'is_active': 'perhaps' is neither yes nor no; write 1 or 0."),
        (OfferResource, {"supplier": "NOBODY", "sku": "MUG", "price": "1", "currency": "USD"},
         "column 'supplier': there is no supplier 'NOBODY'; make it first, or name a known code."),
        (OfferResource, {"supplier": "KILN", "sku": "MUG", "price": "1", "currency": "USD", "valid_from": "1 May"},
         "column 'valid_from': '1 May' is not a day; write it like 2026-11-23."),
        (BinResource, {"warehouse": "MOON", "code": "A-1"},
         "column 'warehouse': there is no warehouse 'MOON'; make it first, or name a known code."),
    ],
)  # fmt: skip
def test_a_wrong_cell_names_its_column_and_the_fix(resource: Any, row: dict[str, str], words: str) -> None:
    make_sku("MUG")
    Supplier.objects.create(code="KILN", name="Kiln", currency="USD", lead_time_days=7)
    result = resource().import_data(tablib.Dataset(list(row.values()), headers=list(row)), dry_run=True)
    found = [str(one.error) for line in result.rows for one in line.errors]
    found += [str(text) for line in result.invalid_rows for text in line.error.messages]
    assert words in found, found
    assert not SupplierOffer.objects.exists() and not Bin.objects.exists()


def test_export_cannot_compute_and_comes_back_unchanged() -> None:
    product = Product.objects.create(title="P")
    for number, title in enumerate(["=1+1", "+49", "-5 %", "@home", "＝x", "plain"]):
        Sku.objects.create(product=product, code=f"S{number}", title=title)
    exported = SkuResource().export(Sku.objects.order_by("pk"))
    assert exported["title"] == ["'=1+1", "'+49", "'-5 %", "'@home", "'＝x", "plain"]
    result = SkuResource().import_data(exported, dry_run=False)
    assert not result.has_errors() and not result.has_validation_errors()
    assert result.totals["skip"] == 6 and result.totals["update"] == 0


def test_dead_news_is_tried_again_from_the_desk(desk: Client) -> None:
    event = OutboxEvent.objects.create(topic="x", key="1", dead=True, attempts=8)
    chosen = {"action": "again", "_selected_action": [event.pk]}
    assert desk.post(reverse("admin:core_outboxevent_changelist"), chosen).status_code == 302
    event.refresh_from_db()
    assert (event.dead, event.attempts) == (False, 0)
    again = desk.post(reverse("admin:core_outboxevent_changelist"), chosen, follow=True)
    assert b"it was handled or removed meanwhile" in again.content


def test_the_desk_asks_for_the_second_factor(settings: Any, client: Client) -> None:
    settings.REQUIRE_SECOND_FACTOR = True
    user = make_user("stan", "viewer")
    user.is_staff = True
    user.save()
    client.force_login(user)
    answer = client.get("/admin/")
    assert answer.status_code == 302 and answer.headers["Location"] == reverse("control:totp")


def test_master_data_goes_in_and_out_as_files() -> None:
    make_warehouse()
    exported = {model._meta.label for model in OURS if isinstance(site_of(model), MasterDataAdmin)}
    assert EDITED - exported == {"core.User", "core.Membership"}
