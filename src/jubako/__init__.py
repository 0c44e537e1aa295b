"""Rootless Linux containers in Python: nothing trusted but the kernel."""

__version__ = "0.1.0"
