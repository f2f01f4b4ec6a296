#!/usr/bin/env bash
# The stubs against the installed code.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs wheel
activate tools
python -m pip install -q "$(echo "$work"/dist/*.whl)[sklearn,sktime,plot,progress,io,onnx]"
cd "$work"
printf '[mypy]\nignore_missing_imports = true\n' >mypy.ini
python -m mypy.stubtest lstm_ext --mypy-config-file mypy.ini --ignore-disjoint-bases \
    --allowlist source/.ci/stubtest-allowlist.txt
