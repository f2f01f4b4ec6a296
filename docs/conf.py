"""Sphinx: `sphinx-build -W --keep-going -b html docs SITE`, with the extra [docs] installed."""

import os
import re
import sys
import tomllib
from pathlib import Path

import latex2mathml.converter
from docutils import nodes

import lstm_ext

os.environ.setdefault("MPLBACKEND", "Agg")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # gallery_order
URLS = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]

project = "lstm-ext"
author = "The lstm-ext developers"
copyright = author
version = release = lstm_ext.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
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
autodoc_default_options = {"members": True, "inherited-members": True, "special-members": "__call__"}
autodoc_class_signature = "mixed"
autodoc_typehints = "none"  # the docstrings say them
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "ignore_pattern": r"^(?!plot_)",
    "within_subsection_order": "gallery_order.Order",
    "image_scrapers": "gallery_order.scrape",
    "download_all_examples": False,
    # The last expression of a block is shown where it has HTML: a repr such as <Display object> says nothing.
    "capture_repr": ("_repr_html_",),
    "min_reported_time": 1e9,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "abort_on_example_error": True,
}

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_title = f"lstm-ext {version}"
html_show_sourcelink = False
html_extra_path = ["llms.txt"]
html_theme_options = {
    "source_repository": URLS["Repository"],
    "source_branch": "main",
    "source_directory": "docs/",
    "footer_icons": [],
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def skip_foreign(app, what, name, thing, skip, options):
    """Leave out what a class inherits from scikit-learn or sktime: it points into pages of theirs."""
    foreign = (getattr(thing, "__module__", None) or "").startswith(("sklearn.", "sktime.", "skbase."))
    return skip or foreign or (name.startswith("set_") and name.endswith("_request"))


def mathml(self, node):
    """Write mathematics as MathML, which browsers show without a script."""
    text = node.astext()
    if node.tagname == "math_block":
        text = re.sub(r"\\(begin|end)\{(aligned|split)\}", r"\\\1{align*}", text)
        if "&" in text and r"\begin" not in text:
            text = rf"\begin{{align*}}{text}\end{{align*}}"
        body = latex2mathml.converter.convert(text, display="block")
        self.body.append(f'<div class="math">{body}</div>')
    else:
        self.body.append(latex2mathml.converter.convert(text))
    raise nodes.SkipNode


def describe(app, pagename, templatename, context, doctree):
    """Give each page a description for search engines: its first paragraph."""
    if doctree is None:
        return
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) > 40:
            short = text if len(text) <= 160 else text[:157].rsplit(" ", 1)[0] + " ..."
            escaped = short.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
            tag = f'<meta name="description" content="{escaped}">'
            context["metatags"] = context.get("metatags", "") + tag
            return


def setup(app):
    """Connect the above."""
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("html-page-context", describe)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))


html_math_renderer = "mathml"
