from django.apps import AppConfig


class ControlConfig(AppConfig):
    name = "oms.control"
    label = "control"
    verbose_name = "Control"
    default_auto_field = "django.db.models.BigAutoField"
