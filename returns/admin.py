"""Reason codes are kept here; returns and refunds change only through services."""

from __future__ import annotations

from django.contrib import admin

from oms.core.admin import MasterDataAdmin
from oms.core.masterfiles import SafeResource
from returns.models import ReturnReason


class ReasonResource(SafeResource):
    class Meta:
        model = ReturnReason
        import_id_fields = ("code",)
        fields = ("code", "name", "our_fault", "is_active")
        skip_unchanged = True


@admin.register(ReturnReason)
class ReasonAdmin(MasterDataAdmin):
    resource_classes = (ReasonResource,)
    list_display = ("code", "name", "our_fault", "is_active")
    search_fields = ("code", "name")
