"""The paper in tensors: prompts, heatmap, prototypes, adapter, fusion, losses and their training.

Start with :mod:`t2ipal.method.equations`, the forward pass. Nothing here knows where features come
from: no CLIP library, no diffusion library, no files.

Shapes use the same letters everywhere: B items in a batch, P local positions (or caption tokens),
D feature width, C classes, M context tokens, K prototypes per class, N bank entries, T tokens of a
prompt, Wt width of a token embedding. Features and class embeddings are L2-normalised.
"""
