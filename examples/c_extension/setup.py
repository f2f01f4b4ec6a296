"""A plain C extension: the header's directory is all that it needs to know of lstm_ext."""

from setuptools import Extension, setup

import lstm_ext

setup(
    ext_modules=[
        Extension("lstm_filter", ["lstm_filter.c"], include_dirs=[lstm_ext.get_include()])
    ]
)
