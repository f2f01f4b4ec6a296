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
# Every public name has a type: exits with an error below 100 %. From where no folder hides the installed package.
mkdir -p "$work/elsewhere"
cd "$work/elsewhere"
basedpyright --verifytypes lstm_ext --ignoreexternal >"$work/types.log" || {
    grep -A2 error "$work/types.log"
    exit 1
}
tail -n 3 "$work/types.log"
