from django.urls import path

from oms.orders import fence_views, promise_views, views, waiting_views

app_name = "orders"
urlpatterns = [
    path("", views.queue, name="list"),
    path("new/", views.create, name="new"),
    path("bulk/", views.bulk_action, name="bulk"),
    path("fences/", fence_views.ring_fences, name="fences"),
    path("waiting/", waiting_views.waiting, name="waiting"),
    path("promises/", promise_views.promised, name="promises"),
    path("<str:number>/", views.detail, name="detail"),
    path("<str:number>/hold/", views.hold, name="hold"),
    path("<str:number>/release/", views.release, name="release"),
    path("<str:number>/cancel/", views.cancel, name="cancel"),
    path("<str:number>/note/", views.note, name="note"),
    path("<str:number>/tags/", views.tags, name="tags"),
    path("<str:number>/map/", views.map_sku, name="map"),
]
