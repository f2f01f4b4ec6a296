"""Cython finds lstm_ext/cython_lstm.pxd where lstm_ext is installed: there is nothing to name here."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(ext_modules=cythonize([Extension("oscillator", ["oscillator.pyx"])], language_level=3))
