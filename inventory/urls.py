from django.urls import path

from inventory import views

app_name = "inventory"
urlpatterns = [
    path("", views.stock, name="stock"),
    path("adjust/", views.adjust, name="adjust"),
    path("approvals/", views.approvals, name="approvals"),
    path("transfers/", views.transfers, name="transfers"),
    path("transfers/<int:pk>/", views.transfer, name="transfer"),
    # last: a code may hold any character, a slash included
    path("<path:code>/", views.sku, name="sku"),
]
