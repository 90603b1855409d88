"""Word sense disambiguation with text and pictures, after PolCLIP. `from polclip import Disambiguator` uses a model."""

import importlib
import os

__all__ = ["Disambiguator"]
__version__ = "0.1.0"

# On CPUs torch and oneDNN keep what they prepared for the last 1,024 shapes of a product each: half a gigabyte where
# texts of all lengths come by. Read when the first product is computed; set by the user, it stays.
for _name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    os.environ.setdefault(_name, "256")


def __getattr__(name: str) -> object:
    # Named as text, since `import polclip` is to stay cheap, and what a rule depends on is read from import statements.
    if name in __all__:
        return getattr(importlib.import_module("polclip.disambiguator"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
