#!/usr/bin/env bash
# The documentation site; warnings are errors.
# shellcheck source=.ci/common.sh
source "$(dirname "$0")/../common.sh"
needs wheel
after stubs # one environment, and two installations at a time would spoil it
activate tools
python -m pip install -q "$(echo "$work"/dist/*.whl)[docs]"
# Pages link to sources, so these lie beside them; sphinx-build, unlike python -m, does not import them.
cp -R "$work/source" "$work/site-source"
cd "$work/site-source"
sphinx-build -W --keep-going -b html docs "$work/site" -q
python docs/check_site.py "$work/site" # links, anchors, alternative texts, nothing from elsewhere
