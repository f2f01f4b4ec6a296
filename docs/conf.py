"""Sphinx: `sphinx-build -W --keep-going -b html docs SITE`, with the extra [docs] installed."""

import os
from pathlib import Path

import lstm_ext

os.environ.setdefault("MPLBACKEND", "Agg")
HERE = Path(__file__).parent

project = "lstm-ext"
author = "The lstm-ext developers"
copyright = author
version = release = lstm_ext.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]

# Pages are Markdown that GitHub shows as well: $...$ is mathematics, and headings have its anchors.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

# The reference is made of the docstrings, for every public module and the names in its __all__.
default_role = "py:obj"
autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_class_signature = "mixed"
autodoc_typehints = "none"  # the docstrings say them, in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "ignore_pattern": r"^(?!plot_)",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "min_reported_time": 1e9,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "abort_on_example_error": True,
}

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"lstm-ext {version}"
html_show_sourcelink = False


def skip_foreign(app, what, name, thing, skip, options):
    """Leave out what a class inherits from scikit-learn or sktime: its words point into their pages."""
    foreign = (getattr(thing, "__module__", None) or "").startswith(("sklearn.", "sktime.", "skbase."))
    return skip or foreign or (name.startswith("set_") and name.endswith("_request"))


def setup(app):
    """Connect the above."""
    app.connect("autodoc-skip-member", skip_foreign)
