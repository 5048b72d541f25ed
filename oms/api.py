"""The REST interface under /api/v1/: each app registers its own resources, named here by string."""

from importlib import import_module

from django.urls import re_path
from rest_framework.routers import SimpleRouter

from oms.core.api.problems import nothing_here

APPS = (
    "inventory",
    "procurement",
    "oms.orders",
    "fulfillment",
    "returns",
    "channels",
    "oms.control",
)

#: further modules of an app that has many resources
EXTRA = ("inventory.work_api", "fulfillment.order_api", "channels.mapping_api")

router = SimpleRouter()
for module in [*(f"{app}.api" for app in APPS), *EXTRA]:
    import_module(module).register(router)

app_name = "api"
urlpatterns = [*router.urls, re_path("", nothing_here)]
