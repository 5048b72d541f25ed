"""Every table that no app described is looked at here, and rows lead back to their screens.

This app is loaded last of ours, so a new model is on the desk the day it is made, read-only until somebody decides
otherwise.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db import models
from django.urls import reverse

from oms.control.models import WebhookDelivery
from oms.control.webhooks import service
from oms.core.actor import actor_of
from oms.core.admin import SCREEN_OF, ReadOnlyAdmin, each
from oms.core.apps import LADING
from oms.core.fields import EncryptedJSONField, EncryptedTextField
from oms.core.masking import secret_name

WIDEST = 9  # columns of a list
_HEAVY = (models.TextField, models.JSONField, models.BinaryField, models.FileField)

SCREEN_OF |= {
    "core.User": lambda row: reverse("control:user", args=[row.pk]),
    "core.Job": lambda row: reverse("control:job", args=[row.pk]),
    "core.AuditEntry": lambda row: f"{reverse('control:audit')}?id={row.object_id}&type={row.object_type}",
    "inventory.Sku": lambda row: reverse("inventory:sku", args=[row.code]),
    "inventory.StockLevel": lambda row: reverse("inventory:sku", args=[row.sku.code]),
    "inventory.StockMovement": lambda row: reverse("inventory:sku", args=[row.sku.code]),
    "inventory.Transfer": lambda row: reverse("inventory:transfer", args=[row.pk]),
    "procurement.Supplier": lambda row: reverse("procurement:supplier", args=[row.code]),
    "procurement.PurchaseOrder": lambda row: reverse("procurement:order", args=[row.pk]),
    "orders.Order": lambda row: reverse("orders:detail", args=[row.number]),
    "fulfillment.Shipment": lambda row: reverse("fulfillment:shipment", args=[row.pk]),
    "returns.Rma": lambda row: reverse("returns:detail", args=[row.pk]),
    "channels.ChannelAccount": lambda row: reverse("channels:detail", args=[row.sales_channel.code]),
    "channels.Listing": lambda row: reverse("channels:listing", args=[row.pk]),
    "control.ImportFile": lambda row: reverse("control:import", args=[row.pk]),
    "control.WebhookEndpoint": lambda row: reverse("control:webhook", args=[row.pk]),
    "control.WebhookDelivery": lambda row: reverse("control:webhook-delivery", args=[row.pk]),
}


def hidden(field: models.Field[Any, Any]) -> bool:
    """True for what is encrypted, or named like a secret: not even the desk shows it."""
    return isinstance(field, EncryptedJSONField | EncryptedTextField) or (
        isinstance(field, models.TextField | models.CharField | models.JSONField) and secret_name(field.name)
    )


def describe(model: type[models.Model]) -> dict[str, Any]:
    """How a table is looked at: its light columns, exact search by its texts, nothing secret."""
    fields: Any = model._meta.concrete_fields
    light = [field for field in fields if not isinstance(field, _HEAVY) and not hidden(field)]
    texts = [
        field.name
        for field in light
        if field.get_internal_type() == "CharField" and not field.choices and (field.db_index or field.unique)
    ]
    return {
        "list_display": [field.name for field in light][:WIDEST],
        "list_select_related": [field.name for field in light[:WIDEST] if field.is_relation],
        "list_filter": [field.name for field in light if field.choices][:3],
        "search_fields": [f"={name}" for name in texts],
        "exclude": [field.name for field in fields if hidden(field)],
        "ordering": ["-pk"],
    }


@admin.register(WebhookDelivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ("id", "endpoint", "event", "state", "attempts", "next_attempt_at", "error")
    list_filter = ("state", "endpoint")
    list_select_related = ("endpoint", "event")
    search_fields = ("=event__uid", "=subject")
    actions = ("resend",)

    @admin.action(description="Send again")
    def resend(self, request: Any, rows: models.QuerySet[WebhookDelivery]) -> None:
        each(
            self,
            request,
            rows,
            lambda row: service.resend(row.pk, actor=actor_of(request.user)),
            "on the way",
        )


for _model in apps.get_models():
    if _model.__module__.split(".")[0] in LADING and not admin.site.is_registered(_model):
        admin.site.register(_model, type(f"{_model.__name__}Admin", (ReadOnlyAdmin,), describe(_model)))
