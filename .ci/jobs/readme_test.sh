#!/usr/bin/env bash
# The README's second command, as it stands there: the tests, on what was just built in place.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
readme_command test
