"""Layers for first in, first out; value stands in the ledger; as-of questions find their rows by SKU and time."""

import django.db.models.deletion
import django.utils.timezone
import oms.core.fields
from oms.core.triggers import append_only
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('inventory', '0006_stock_days'),
    ]

    operations = [
        migrations.CreateModel(
            name='CostEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('late_cost', 'Late landed cost'), ('method', 'Valuation changed')], max_length=10)),
                ('amount', oms.core.fields.MoneyAmountField(decimal_places=4, help_text='put on the units in stock, signed', max_digits=18)),
                ('variance', oms.core.fields.MoneyAmountField(decimal_places=4, default=0, help_text='of units sold before: cost of goods sold', max_digits=18)),
                ('average_cost', oms.core.fields.MoneyAmountField(decimal_places=4, help_text='of the level after it', max_digits=14)),
                ('stock_value', oms.core.fields.MoneyAmountField(decimal_places=4, help_text='of the level after it', max_digits=18)),
                ('reference', models.CharField(blank=True, max_length=80)),
                ('actor', models.CharField(max_length=120)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                'verbose_name_plural': 'cost entries',
            },
        ),
        migrations.CreateModel(
            name='CostLayer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('remaining', models.PositiveIntegerField()),
                ('value', oms.core.fields.MoneyAmountField(decimal_places=4, help_text='of the remaining units, SKU currency', max_digits=18)),
                ('reference', models.CharField(blank=True, help_text='what brought the units: PO-77', max_length=80)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='stockcheckpoint',
            name='stock_checkpoint_once',
        ),
        migrations.RemoveIndex(
            model_name='stockmovement',
            name='movement_level_idx',
        ),
        migrations.AddField(
            model_name='sku',
            name='valuation',
            field=models.CharField(blank=True, choices=[('', 'As set for the business'), ('average', 'Moving average'), ('fifo', 'First in, first out')], default='', editable=False, help_text='how units that leave are costed; changed by inventory.valuation.set_method()', max_length=8),
        ),
        migrations.AddField(
            model_name='stockcheckpoint',
            name='average_cost',
            field=oms.core.fields.MoneyAmountField(blank=True, decimal_places=4, max_digits=14, null=True),
        ),
        migrations.AddField(
            model_name='stockcheckpoint',
            name='stock_value',
            field=oms.core.fields.MoneyAmountField(blank=True, decimal_places=4, max_digits=18, null=True),
        ),
        migrations.AddField(
            model_name='stockmovement',
            name='stock_value',
            field=oms.core.fields.MoneyAmountField(blank=True, decimal_places=4, help_text="value of the level's units on hand after this movement", max_digits=18, null=True),
        ),
        migrations.AddIndex(
            model_name='stockmovement',
            index=models.Index(fields=['sku', 'created_at'], name='movement_sku_time_idx'),
        ),
        migrations.AddConstraint(
            model_name='stockcheckpoint',
            constraint=models.UniqueConstraint(fields=('at', 'sku', 'warehouse', 'bucket'), name='stock_checkpoint_unique'),
        ),
        migrations.AddField(
            model_name='costentry',
            name='sku',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.sku'),
        ),
        migrations.AddField(
            model_name='costentry',
            name='warehouse',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.warehouse'),
        ),
        migrations.AddField(
            model_name='costlayer',
            name='sku',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.sku'),
        ),
        migrations.AddField(
            model_name='costlayer',
            name='warehouse',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='inventory.warehouse'),
        ),
        migrations.AddIndex(
            model_name='costentry',
            index=models.Index(fields=['sku', 'created_at'], name='cost_entry_sku_time_idx'),
        ),
        migrations.AddIndex(
            model_name='costlayer',
            index=models.Index(condition=models.Q(('remaining__gt', 0)), fields=['sku', 'warehouse', 'id'], name='cost_layer_left_idx'),
        ),
        migrations.AddConstraint(
            model_name='costlayer',
            constraint=models.CheckConstraint(condition=models.Q(('value__gte', 0)), name='cost_layer_value_not_negative'),
        ),
        append_only("inventory_costentry"),
    ]
