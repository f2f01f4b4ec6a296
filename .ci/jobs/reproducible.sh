#!/usr/bin/env bash
# Two builds of one commit in two directories are equal, byte for byte: `.ci/run reproducible`, before a release.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs tools
activate tools
SOURCE_DATE_EPOCH=$(git -c safe.directory='*' -C "$checkout" log -1 --format=%ct)
export SOURCE_DATE_EPOCH CCACHE_DISABLE=1
for build in one another; do
    copy "$work/$build"
    (cd "$work/$build" && python -m build --outdir "$work/dist-$build" . >"$work/$build.log" 2>&1) || {
        cat "$work/$build.log"
        exit 1
    }
    python "$checkout/.ci/normalize_sdist.py" "$work/dist-$build"/*.tar.gz "$SOURCE_DATE_EPOCH"
done
(cd "$work/dist-one" && sha256sum ./*) | tee "$work/sums"
(cd "$work/dist-another" && sha256sum --check "$work/sums")
