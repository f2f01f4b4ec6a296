# shellcheck shell=bash
# Jobs, each of which runs once: $work/NAME.taken, and .passed or .failed. Whoever needs one that nobody has
# begun runs it, so the order of the lanes is a matter of time alone.
: "${checkout:?}" "${work:?}"

run_job() { # run_job NAME: once in a run; what it prints is shown as a whole when it ends
    mkdir "$work/$1.taken" 2>/dev/null || return 0
    local result=passed begun=$SECONDS
    timeout --kill-after=30 40m bash "$checkout/.ci/jobs/$1.sh" >"$work/$1.log" 2>&1 || result=failed
    (
        flock 9
        printf '\n==== %s\n' "$1"
        cat "$work/$1.log"
        printf '%-12s %s, %4d s\n' "$1" "$result" $((SECONDS - begun)) | tee -a "$work/summary"
    ) >&3 9>"$work/output.lock"
    touch "$work/$1.$result"
}

needs() { # needs JOB...: run what no lane has begun; wait for the rest; end if one of them failed
    local other
    for other; do
        run_job "$other"
        await "$other" || {
            echo "not run, because $other failed"
            exit 1
        }
    done
}

after() { # after JOB: wait for it where another lane has begun it; its result does not matter
    if [ -e "$work/$1.taken" ]; then
        await "$1" || true
    fi
}

await() { # await JOB: whether it passed
    until [ -e "$work/$1.passed" ]; do
        if [ -e "$work/$1.failed" ]; then return 1; fi
        sleep 1
    done
}
