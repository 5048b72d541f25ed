from django.urls import path

from channels import file_views, mapping_views, views

app_name = "channels"
urlpatterns = [
    path("", views.overview, name="list"),
    path("connect/", views.connect, name="connect"),
    path("stock/", views.stock_grid, name="grid"),
    path("rules/", views.rules, name="rules"),
    path("listings/<int:pk>/", views.listing, name="listing"),
    path("listings/<int:pk>/buffer/", views.buffer, name="buffer"),
    path("listings/<int:pk>/map/", views.map_one, name="map"),
    path("listings/<int:pk>/retry/", views.retry, name="retry"),
    path("listings/<int:pk>/drop/", views.drop, name="drop"),
    path("drifts/<int:pk>/heal/", views.heal, name="heal"),
    path("drifts/<int:pk>/accept/", views.accept, name="accept"),
    path("oversells/<int:pk>/", views.oversell, name="oversell"),
    path("oversells/orders/<int:order_id>/again/", views.look_again, name="look_again"),
    path("effects/<int:pk>/", views.effect, name="effect"),
    path("messages/<int:pk>/", views.message, name="message"),
    path("orders/<int:order_id>/panel/", views.order_panel, name="order_panel"),
    path("skus/<int:sku_id>/panel/", views.sku_panel, name="sku_panel"),
    path("<slug:code>/", views.detail, name="detail"),
    path("<slug:code>/drift/", views.drifts, name="drift"),
    path("<slug:code>/act/", views.act, name="act"),
    path("<slug:code>/settings/", views.settings, name="settings"),
    path("<slug:code>/mapping/", mapping_views.mapping, name="mapping"),
    path("<slug:code>/files/", file_views.files, name="files"),
    path("<slug:code>/files/<int:file_id>/errors/", file_views.errors, name="file-errors"),
    path("<slug:code>/layout/", file_views.layout, name="layout"),
    path("<slug:code>/listings/", views.listings, name="listings"),
]
