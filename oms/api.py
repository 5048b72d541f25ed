"""The REST interface under /api/v1/: each app registers its own resources, named here by string."""

from importlib import import_module

from rest_framework.routers import SimpleRouter

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
urlpatterns = router.urls
