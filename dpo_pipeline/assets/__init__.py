"""Thin Dagster: read, call `core` or `ml`, write, return metadata worth looking at."""
