"""The trained model as its user holds it."""

from pathlib import Path

PACKAGED = {"photo": Path(__file__).parent / "models" / "photo"}
"""Name -> folder of the taggers that come with the package; a folder of that name is ``./NAME``."""
