from django.urls import path

from inventory import bulk_views, evidence_views, pool_views, serial_views, time_views, views, work_views

app_name = "inventory"
urlpatterns = [
    path("", views.stock, name="stock"),
    path("as-of/", time_views.as_of, name="as_of"),
    path("export/", bulk_views.export, name="export"),
    path("bulk/", bulk_views.bulk_action, name="bulk"),
    path("adjust/", views.adjust, name="adjust"),
    path("approvals/", views.approvals, name="approvals"),
    path("pools/", pool_views.pools, name="pools"),
    path("differences/", pool_views.desk, name="differences"),
    path("differences/<int:pk>/", pool_views.difference, name="difference"),
    path("differences/<int:pk>/evidence.csv", pool_views.evidence, name="evidence"),
    path("transfers/", views.transfers, name="transfers"),
    path("transfers/<int:pk>/", views.transfer, name="transfer"),
    path("counts/", work_views.count_list, name="counts"),
    path("counts/next/", work_views.count_next, name="count-next"),
    path("counts/<int:task_id>/", work_views.count, name="count"),
    path("put-away/", work_views.put_away, name="putaway"),
    path("bins/", work_views.bin_list, name="bins"),
    path("bins/<int:bin_id>/", work_views.bin_detail, name="bin"),
    path("lots/", work_views.lot_list, name="lots"),
    path("serials/", serial_views.serial_list, name="serials"),
    path("serials/<int:unit_id>/", serial_views.serial, name="serial"),
    path("evidence/files/<int:file_id>/", evidence_views.file, name="evidence-file"),
    path("evidence/<slug:kind>/<int:pk>/", evidence_views.files, name="evidence-files"),
    path("sku/<int:sku_id>/build/", views.build, name="build"),
    path("sku/<int:sku_id>/valuation/", views.value, name="valuation"),
    path("sku/<int:sku_id>/customs/", views.customs, name="customs"),
    path("merge/", work_views.merge, name="merge"),
    # last: a code may hold any character, a slash included
    path("<path:code>/", views.sku, name="sku"),
]
