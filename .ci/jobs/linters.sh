#!/usr/bin/env bash
# Linters, on Python, Cython and these scripts.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs tools
activate tools
cd "$work/source"
ruff check .
cython-lint src lstm_ext
if command -v shellcheck >/dev/null; then
    shellcheck --external-sources .ci/readme_command .ci/run .ci/*.sh .ci/jobs/*.sh
fi
for script in .ci/run .ci/*.sh .ci/jobs/*.sh; do
    if [ "$(wc -l <"$script")" -gt 60 ]; then
        echo "$script is $(wc -l <"$script") lines long, expected at most 60"
        exit 1
    fi
done
