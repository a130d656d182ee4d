"""Captions become images: any diffusers text-to-image pipeline, and the store of its images."""
