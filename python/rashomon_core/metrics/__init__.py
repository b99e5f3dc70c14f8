"""Metrics: pure functions, views in, numbers and results out. One reading serves all of them (visit.py)."""
