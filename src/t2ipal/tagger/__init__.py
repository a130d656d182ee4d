"""The trained model as its user holds it."""
