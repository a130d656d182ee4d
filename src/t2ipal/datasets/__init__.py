"""Labelled images from files: folders, tables, COCO JSON and the official benchmarks."""
