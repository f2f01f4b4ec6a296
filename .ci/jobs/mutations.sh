#!/usr/bin/env bash
# A few mistakes put into the sources; the suite must see each.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs install # for its environment alone
activate installed
cd "$work/source"
python tests/support/mutations.py gates-i-f-swapped h-carry-forgotten length-off-by-one
