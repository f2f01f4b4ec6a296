#!/usr/bin/env bash
# The suite on the installed wheel, with PyTorch, Keras, numba, sktime and MPI at hand.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs install
activate installed
cd "$work/alone"
# The README's test command has seen what needs the sources.
python -m pytest -m "not needs_source"
