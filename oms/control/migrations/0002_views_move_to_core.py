"""Saved views are a matter of every list: the table moves to core, where the lists of all floors reach it.

No screen has written to it yet, so nothing is carried over.
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("control", "0001_control_model")]

    operations = [migrations.DeleteModel(name="SavedView")]
