"""The order of the gallery, first what most readers look for, and the descriptions of its pictures."""

import re

ORDER = ["plot_forecaster", "plot_classifier", "plot_attribution", "plot_states", "plot_learning"]


class Order:
    """A key of sphinx-gallery; an example that is not in ORDER comes last."""

    def __init__(self, source):
        pass

    def __call__(self, file):
        """Return the sort key of a file."""
        name = file.removesuffix(".py")
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

    def __repr__(self):
        return "<Order>"  # Sphinx compares configurations by it


def described(figure):
    """Return what a figure shows, from its titles, axis labels and legends, for readers who cannot see it."""
    parts = []
    for axes in figure.axes:
        y, x, title = axes.get_ylabel(), axes.get_xlabel(), axes.get_title()
        lines = [text for text in axes.get_legend_handles_labels()[1] if text and text[0] != "_"]
        text = " against ".join(filter(None, (y, x)))
        text = ": ".join(filter(None, (title, text, ", ".join(dict.fromkeys(lines)))))
        if text and text not in parts:
            parts.append(text)
    return re.sub(r"\s+", " ", "; ".join(parts)) or "figure"


def scrape(block, block_vars, gallery_conf, **options):
    """Save the figures as sphinx-gallery does, with a description of each as alternative text."""
    import matplotlib.pyplot as plt
    from sphinx_gallery.scrapers import matplotlib_scraper

    texts = iter([described(plt.figure(number)) for number in plt.get_fignums()])
    rst = matplotlib_scraper(block, block_vars, gallery_conf, **options)
    return re.sub(r":alt: .*", lambda match: f":alt: {next(texts)}", rst)
