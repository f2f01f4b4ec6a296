# shellcheck shell=bash
# What the jobs have in common.
set -euo pipefail
: "${checkout:?is set by .ci/run}" "${work:?is set by .ci/run}"
# shellcheck source=.ci/queue.sh
source "$checkout/.ci/queue.sh"

step() { # step TEXT: a heading
    printf '\n---- %s\n' "$*"
}

# A copy of what git knows, or would: no build, no cache.
copy() { # copy TO
    mkdir -p "$1"
    (
        cd "$checkout"
        if git -c safe.directory='*' rev-parse --is-inside-work-tree >/dev/null 2>&1; then
            git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
                while IFS= read -r -d '' file; do
                    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
                done | tar -c --null --files-from=- -f -
        else
            tar -c --exclude=./build --exclude='*.so' --exclude='*.egg-info' --exclude=__pycache__ -f - .
        fi
    ) | tar -x -C "$1" -f -
}

fresh_environment() { # fresh_environment NAME: a virtual environment, active
    "${python:?is set by .ci/machine.sh}" -m venv "$work/$1"
    activate "$1"
}

activate() { # activate NAME
    # shellcheck disable=SC1090,SC1091
    source "$work/$1/bin/activate"
}

readme_command() { # readme_command NAME: that command of the README, in a fresh copy and environment
    local command
    copy "$work/clone-$1"
    cd "$work/clone-$1"
    command=$(.ci/readme_command "$1")
    step "README: $command"
    fresh_environment "environment-$1"
    bash -c "$command"
    lstm-ext info
    cd "$work"
    rm -rf "$work/clone-$1" "$work/environment-$1"
}
