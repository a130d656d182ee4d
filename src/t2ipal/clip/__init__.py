"""The only room that knows open_clip: frozen CLIP models as global and local features."""
