# shellcheck shell=bash
# What the machine lacks. Sets $python and $compiler; ccache and MPI are used where they are to be had.
: "${work:?}"

install_packages() {
    echo "installing: $*"
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo -n)
    fi
    if ! { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qy --no-install-recommends "$@"; } >/dev/null; then
        echo "this machine lacks $*, and apt-get did not install them: please do" >&2
        exit 1
    fi
}

# A name on the PATH may be a shim of a version that is not there: run it.
find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            export python=$name
            return 0
        fi
    done
    return 1
}

find_python || install_packages python3
find_python || {
    echo "no Python 3.11 or newer here: name one in the environment variable PYTHON" >&2
    exit 1
}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages "python$version-venv"
"$python" -c 'import os, sysconfig; open(os.path.join(sysconfig.get_path("include"), "Python.h"))' \
    2>/dev/null || install_packages "python$version-dev"
compiler=$("$python" -c 'import sysconfig; print((sysconfig.get_config_var("CC") or "cc").split()[0])')
command -v "${CC:-$compiler}" >/dev/null || install_packages gcc libc6-dev

# What some tests and the build are quicker or more thorough with; they say so loudly where it is missing.
(install_packages ccache gfortran shellcheck valgrind openmpi-bin libopenmpi-dev) || echo "going on without"
if command -v ccache >/dev/null; then
    # The same sources are compiled four times; what is compiled does not depend on the directory.
    export CCACHE_DIR="$work/ccache" CCACHE_NOHASHDIR=1 CC="ccache ${CC:-$compiler}"
fi
# MPI starts as root on a build machine, with more processes than it has cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
export OMPI_MCA_rmaps_base_oversubscribe=1
