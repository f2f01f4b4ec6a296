from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.floating[Any]]

def _gemm_memview(
    trans_a: bool, trans_b: bool, alpha: float, A: _Array, B: _Array, beta: float, C: _Array
) -> None: ...
def _gemv_memview(
    trans: bool, alpha: float, A: _Array, x: _Array, beta: float, y: _Array
) -> None: ...
def _ger_memview(alpha: float, x: _Array, y: _Array, A: _Array) -> None: ...
