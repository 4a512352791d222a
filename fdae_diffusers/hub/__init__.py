"""A model's folder: its files, its card and example pictures, loading it and publishing it."""

from ..utils.assets import SHIPPED_MODEL, find_model
from .examples import load_examples

__all__ = ["SHIPPED_MODEL", "find_model", "load_examples"]
