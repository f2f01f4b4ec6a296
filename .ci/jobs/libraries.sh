#!/usr/bin/env bash
# All that the wheel is tested with, but for the wheel: this needs no compiler.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
fresh_environment installed
python -m pip install -q torch==2.13.0 onnxscript keras ai-edge-litert numba mypy cython setuptools joblib zarr distributed sktime casadi fmpy
# MPI's Python side is built against the MPI of the machine, where there is one.
if command -v mpicc >/dev/null; then
    python -m pip install -q mpi4py || echo "no mpi4py here: going on without"
fi
