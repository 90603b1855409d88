"""Word sense disambiguation with text and pictures, after PolCLIP. `from polclip import Disambiguator` uses a model."""

import importlib

__all__ = ["Disambiguator"]


def __getattr__(name: str) -> object:
    # Named as text, since `import polclip` is to stay cheap, and what a rule depends on is read from import statements.
    if name in __all__:
        return getattr(importlib.import_module("polclip.disambiguator"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
