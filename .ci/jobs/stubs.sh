#!/usr/bin/env bash
# The types of the sources, and the stubs of compiled modules, against the installed code.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs wheel
activate tools
python -m pip install -q "$(echo "$work"/dist/*.whl)[sklearn,sktime,plot,progress,io,onnx]"
cd "$work"
python -m mypy.stubtest lstm_ext --mypy-config-file source/pyproject.toml --ignore-disjoint-bases \
    --allowlist source/.ci/stubtest-allowlist.txt
