import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('channels', '0009_preorder_percent'),
    ]

    operations = [
        migrations.AddField(
            model_name='oversellsuspect',
            name='attempts',
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='oversellsuspect',
            name='error',
            field=models.CharField(blank=True, max_length=400),
        ),
        migrations.AddField(
            model_name='oversellsuspect',
            name='next_attempt_at',
            field=models.DateTimeField(default=django.utils.timezone.now, help_text='empty: it could not be written, a person was told', null=True),
        ),
    ]
