"""Sphinx configuration: ``make docs`` builds the site in docs/_build/html."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "overcluster"
author = "the overcluster developers"
version = release = installed_version("overcluster")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_click",
]
exclude_patterns = ["_build"]

myst_heading_anchors = 3
# Options begin with two hyphens.
smartquotes = False
# The parameters of a class are in its own docstring; its members have entries of their own.
numpydoc_show_class_members = False
autodoc_typehints = "none"

html_theme = "pydata_sphinx_theme"
html_title = f"overcluster {version}"
html_show_sourcelink = False
# A page without others beside it has nothing to list.
html_sidebars = {"tutorial": []}
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
}
