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

router = SimpleRouter()
for app in APPS:
    import_module(f"{app}.api").register(router)

app_name = "api"
urlpatterns = [*router.urls, re_path("", nothing_here)]
