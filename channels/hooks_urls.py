from django.urls import path

from channels import hooks

app_name = "hooks"
urlpatterns = [path("<str:hook_key>/", hooks.receive, name="receive")]
