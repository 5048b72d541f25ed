from django.urls import path

from fulfillment import order_views, rule_views, views

app_name = "fulfillment"
urlpatterns = [
    path("shipments/", views.shipments, name="shipments"),
    path("shipments/<int:pk>/", views.shipment, name="shipment"),
    path("shipments/<int:pk>/customs/", views.customs, name="customs"),
    path("shipments/<int:pk>/<slug:step>/", views.step, name="step"),
    path("shipments/<int:pk>/label.<str:kind>", views.label_file, name="label"),
    path("shipments/<int:pk>/slip.pdf", views.packing_slip, name="slip"),
    path("shipments/<int:pk>/invoice.pdf", views.invoice, name="invoice"),
    path("shipments/lots/<int:lot_id>/", views.recall, name="recall"),
    path("floor/", views.floor, name="floor"),
    path("floor/<int:pk>/", views.bench, name="bench"),
    path("routing/", rule_views.routing, name="routing"),
    path("routing/rules/", rule_views.rules_act, name="rules_act"),
    path("routing/rules/new/", rule_views.rule, name="rule_new"),
    path("routing/rules/<int:index>/", rule_views.rule, name="rule"),
    path("routing/trial/", rule_views.rules_try, name="rules_try"),
    path("routing/orders/<int:order_id>/panel/", views.order_panel, name="order_panel"),
    path("routing/orders/<int:order_id>/", views.route_order, name="route_order"),
    path("routing/orders/bulk/", order_views.order_bulk, name="order_bulk"),
    path("orders/<int:order_id>/address/", order_views.address, name="order_address"),
    path("orders/<int:order_id>/address/back/", order_views.address_back, name="order_address_back"),
    path("routing/orders/<int:order_id>/split/", order_views.split, name="split"),
    path("routing/orders/<int:order_id>/rejoin/", order_views.rejoin, name="rejoin"),
]
