import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

from oms.core.bodies import Measured
from oms.core.memory import settle

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "oms.settings")
application = Measured(get_wsgi_application(), settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
get_resolver().url_patterns  # noqa: B018 read for its effect: loads every view
settle()
