"""The order of the gallery: first what most readers look for."""

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
