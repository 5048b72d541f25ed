from django.urls import path

from fulfillment.threepl import views

app_name = "threepl"
urlpatterns = [
    path("", views.overview, name="list"),
    path("connect/", views.connect, name="connect"),
    path("orders/<int:pk>/", views.order, name="order"),
    path("orders/<int:pk>/act/", views.order_act, name="order-act"),
    path("messages/<int:pk>/", views.message, name="message"),
    path("<slug:code>/", views.detail, name="detail"),
    path("<slug:code>/act/", views.act, name="act"),
    path("<slug:code>/send/", views.look, name="send"),
    path("<slug:code>/settings/", views.account_settings, name="settings"),
    path("<slug:code>/files/<int:file_id>/", views.file, name="file"),
]
