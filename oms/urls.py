"""Where each address leads. Apps are named by string: this roof knows them, they do not know it."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.utils.module_loading import import_string
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from oms.core.api.negotiation import ByParameter

urlpatterns: list[URLPattern | URLResolver] = [
    # first, because these are asked hundreds of times a second
    path("hooks/3pl/", include("fulfillment.threepl.hooks_urls")),
    path("hooks/", include("channels.hooks_urls")),
    path("", include("oms.control.urls")),
    path("orders/", include("oms.orders.urls")),
    path("stock/", include("inventory.urls")),
    path("purchasing/", include("procurement.urls")),
    path("", include("fulfillment.urls")),  # floor/, shipments/, routing/, orders/<id>/address/
    path("threepl/", include("fulfillment.threepl.urls")),
    path("returns/", include("returns.urls")),
    path("channels/", include("channels.urls")),
    path("api/v1/", include("oms.api")),
    path("api/schema/", SpectacularAPIView.as_view(content_negotiation_class=ByParameter), name="schema"),
    path(
        "api/docs/",
        SpectacularSwaggerSplitView.as_view(url_name="schema", template_name="api/docs.html"),
        name="api-docs",
    ),
    # one log-in for all: the admin's own form knows neither the throttle nor the second factor
    path("admin/login/", RedirectView.as_view(pattern_name="login", query_string=True)),
    path("admin/", admin.site.urls),
    *(
        path(name, import_string(f"oms.core.health.{name}"), name=name)
        for name in ("healthz", "readyz", "metrics")
    ),
]

# what goes wrong before a view of the API is reached is told to programs as well
handler400 = "oms.core.api.problems.bad_request"
handler404 = "oms.core.api.problems.page_not_found"
