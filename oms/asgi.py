import os

from django.core.asgi import get_asgi_application
from django.urls import get_resolver

from oms.core.memory import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "oms.settings")
application = get_asgi_application()
get_resolver().url_patterns  # noqa: B018 read for its effect: loads every view
settle()
