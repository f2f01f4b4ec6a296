#!/usr/bin/env bash
# The wheel, installed where no source of the package is: $work/alone has the tests and what they read.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs libraries wheel
cp -R "$work/source" "$work/alone"
rm -rf "$work/alone/lstm_ext" "$work/alone/src" "$work/alone/setup.py"
activate installed
cd "$work/alone"
python -m pip install -q "$(echo "$work"/dist/*.whl)[test]"
lstm-ext info
