from django.urls import path

from fulfillment import order_views, views

app_name = "fulfillment"
urlpatterns = [
    path("shipments/", views.shipments, name="shipments"),
    path("shipments/<int:pk>/", views.shipment, name="shipment"),
    path("shipments/<int:pk>/<slug:step>/", views.step, name="step"),
    path("shipments/<int:pk>/label.<str:kind>", views.label_file, name="label"),
    path("shipments/<int:pk>/slip.pdf", views.packing_slip, name="slip"),
    path("shipments/lots/<int:lot_id>/", views.recall, name="recall"),
    path("floor/", views.floor, name="floor"),
    path("floor/<int:pk>/", views.bench, name="bench"),
    path("routing/", views.routing, name="routing"),
    path("routing/orders/<int:order_id>/panel/", views.order_panel, name="order_panel"),
    path("routing/orders/<int:order_id>/", views.route_order, name="route_order"),
    path("routing/orders/bulk/", order_views.order_bulk, name="order_bulk"),
    path("routing/orders/<int:order_id>/address/", order_views.address, name="order_address"),
    path("routing/orders/<int:order_id>/address/back/", order_views.address_back, name="order_address_back"),
    path("routing/orders/<int:order_id>/split/", order_views.split, name="split"),
    path("routing/orders/<int:order_id>/rejoin/", order_views.rejoin, name="rejoin"),
]
