"""Benchmarks of the product (`manage.py bench`), each on a database of its own that is thrown away afterwards."""
