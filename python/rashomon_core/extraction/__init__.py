"""Extraction: a target behind a gate with a budget, queries, and the surrogates that learn from its answers."""
