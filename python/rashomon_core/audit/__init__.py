"""The audit: target, queries, surrogates, exploration, set, metrics, run folder, in one resumable run."""

from __future__ import annotations

from .config import DEFAULTS, Config, make_config, read_config
from .pipeline import Audit, default_folder, run_audit
from .reporting import run_material

__all__ = ["DEFAULTS", "Audit", "Config", "default_folder", "make_config", "read_config", "run_audit", "run_material"]
