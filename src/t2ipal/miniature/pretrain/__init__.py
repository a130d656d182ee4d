"""Training of the miniature's weights: ``python -m t2ipal.miniature.pretrain --help``."""
