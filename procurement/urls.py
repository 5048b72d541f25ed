from django.urls import path

from procurement import views

app_name = "procurement"
urlpatterns = [
    path("orders/", views.orders, name="orders"),
    path("orders/new/", views.new_order, name="new_order"),
    path("orders/<int:pk>/", views.order, name="order"),
    path("orders/<int:pk>/<slug:step>/", views.step, name="step"),
    path("suppliers/", views.suppliers, name="suppliers"),
    path("suppliers/<str:code>/", views.supplier, name="supplier"),
    path("skus/<int:sku_id>/panel/", views.sku_panel, name="sku_panel"),
    path("skus/<int:sku_id>/stock/", views.sku_stock, name="sku_stock"),
    path("reorder/", views.reorder, name="reorder"),
    path("reorder/transfers/", views.reorder_transfers, name="reorder_transfers"),
]
