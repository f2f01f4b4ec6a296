#!/usr/bin/env bash
# The environment of the linters, the build and the pages.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
fresh_environment tools
python -m pip install -q -r "$work/source/.ci/requirements.txt"
