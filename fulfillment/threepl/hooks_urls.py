from django.urls import path

from fulfillment.threepl import hooks

app_name = "threepl_hooks"
urlpatterns = [path("<str:hook_key>/", hooks.receive, name="receive")]
