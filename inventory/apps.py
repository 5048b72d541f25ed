from django.apps import AppConfig


class InventoryConfig(AppConfig):
    name = "inventory"
    label = "inventory"
    verbose_name = "Inventory and warehousing"
    default_auto_field = "django.db.models.BigAutoField"
