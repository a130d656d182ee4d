"""Captions: reading them, finding the classes they name, and composing them from class names."""
