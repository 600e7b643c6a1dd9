"""Runs that are kept at an address in an object store, and worked on in a folder of this machine."""

from workflow.runstore.kept.places import choose_folder, here, is_run, keep, kept_around

__all__ = ["choose_folder", "here", "is_run", "keep", "kept_around"]
