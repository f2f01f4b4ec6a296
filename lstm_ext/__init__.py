"""The LSTM for scientific Python: NumPy in, NumPy out, a compiled Cython and C core."""
