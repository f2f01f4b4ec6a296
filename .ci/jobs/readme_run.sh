#!/usr/bin/env bash
# The README's first command, as it stands there: install, and see it learn.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
readme_command run
