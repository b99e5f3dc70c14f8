"""``python -m rashomon_core.cli``."""

from . import main

main()
