"""Training of the packaged CLIP that knows photos (``--clip photo``): see README.md beside this."""
