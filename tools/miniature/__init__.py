"""Training of the miniature's weights: ``python -m tools.miniature --help``."""
