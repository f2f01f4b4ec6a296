#!/usr/bin/env bash
# The source distribution, and the wheel that it builds.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs tools
# The first lane has compiled the sources by then, and they come from ccache.
after readme_run
activate tools
cp -R "$work/source" "$work/wheel-source"
cd "$work/wheel-source"
python -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 || {
    cat "$work/build.log"
    exit 1
}
ls -l "$work/dist"
if [ "$(cat "$work"/dist/*.whl | wc -c)" -gt 3000000 ]; then
    echo "the wheel is larger than 3 MB"
    exit 1
fi
