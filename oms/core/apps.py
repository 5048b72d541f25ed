from importlib import import_module
from importlib.util import find_spec

from django.apps import AppConfig, apps


class CoreConfig(AppConfig):
    name = "oms.core"
    label = "core"
    verbose_name = "System"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Load each app's subscribers, periodic tasks, job handlers and invariants by their fixed names."""
        for config in apps.get_app_configs():
            for module in ("handlers", "tasks", "invariants"):
                dotted = f"{config.name}.{module}"
                if config.name.split(".")[0] in LADING and find_spec(dotted):
                    import_module(dotted)


LADING = ("oms", "inventory", "procurement", "fulfillment", "returns", "channels")
