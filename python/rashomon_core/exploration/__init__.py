"""Exploration: ways to find members of the Rashomon set of surrogates."""
