#!/usr/bin/env bash
# What depends on the kernel, on the installed wheel, under every kernel that the suite did not run under.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs install
activate installed
cd "$work/alone"
current=$(python -c 'from lstm_ext import _kernels; print(_kernels.current())')
for kernel in $(python -c 'from lstm_ext import _kernels; print(*_kernels.available())'); do
    if [ "$kernel" != "$current" ]; then
        step "kernel $kernel"
        LSTM_EXT_KERNEL=$kernel python -m pytest -m every_kernel
    fi
done
