from django.urls import path

from fulfillment import views

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
]
