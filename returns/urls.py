from django.urls import path

from returns import views

app_name = "returns"
urlpatterns = [
    path("", views.rma_list, name="list"),
    path("bench/", views.bench, name="bench"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/<slug:step>/", views.step, name="step"),
    path("orders/<int:order_id>/panel/", views.order_panel, name="order_panel"),
    path("orders/<int:order_id>/paid/", views.paid_by_hand, name="paid"),
    path("orders/<int:order_id>/open/", views.open_for_order, name="open"),
]
