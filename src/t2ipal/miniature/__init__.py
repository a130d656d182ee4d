"""The stand-in for CLIP and Stable Diffusion: a small CLIP, a small generator and their world.

Nothing outside this package knows that they are small. The models load through the same code as
the real ones; ``scenes`` draws the world they were pretrained on, ``pretrain`` makes the weights.
"""
