# shellcheck shell=bash
# The one place that makes .venv. The scripts beside this file source it and call `environment`:
#
#     . "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
#     environment run            # what a node and the command line need
#     environment development    # and what scripts/test and scripts/check need
#     exec "$ENVIRONMENT_BIN/kraft" ...
#
# It sets PROJECT (the checkout) and ENVIRONMENT_BIN (.venv/bin). The second call is instant and needs no network: a
# stamp in .venv holds what it was made from (the parts of pyproject.toml that pip reads, and the checkout's path,
# because a virtual environment does not survive being copied). It never touches an active virtual environment;
# KRAFT_PYTHON names the interpreter to use when the one found is not the one wanted. Works with bash 3.2.

PROJECT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
ENVIRONMENT_BIN="$PROJECT/.venv/bin"

# Whatever environment the caller has activated, the scripts run in .venv and in nothing else.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

environment() {
    local purpose="$1"
    if environment_is_ready "$purpose"; then return; fi
    if ! command -v flock >/dev/null 2>&1; then environment_make "$purpose" || exit 1; return; fi
    # Two scripts started together make it once: the second waits at the checkout's folder, then finds it ready.
    ( flock 9 && { environment_is_ready "$purpose" || environment_make "$purpose"; } ) 9<"$PROJECT" || exit 1
}

environment_stamp() {
    printf '%s\n' "$PROJECT"
    awk '/^\[/ { kept = /^\[(build-system|project|dependency-groups|tool\.hatch)/ } kept' "$PROJECT/pyproject.toml" | cksum
}

environment_is_ready() {
    # The development environment holds everything that a run needs.
    local purpose
    [ -x "$ENVIRONMENT_BIN/python" ] || return 1
    for purpose in "$1" development; do
        [ "$(cat "$PROJECT/.venv/.kraft-$purpose" 2>/dev/null)" = "$(environment_stamp)" ] && return
    done
    return 1
}

environment_make() {
    local purpose="$1" log="$PROJECT/.venv/.kraft-install.log"
    environment_interpreter_ready || return 1
    echo "kraft: installing into $PROJECT/.venv (once; takes under a minute with a network)" >&2
    environment_requirements "$purpose" >"$PROJECT/.venv/.kraft-requirements.txt" || return 1
    if ! (cd "$PROJECT" && "$ENVIRONMENT_BIN/python" -m pip install --quiet --disable-pip-version-check \
            --editable . --requirement .venv/.kraft-requirements.txt) >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        echo "kraft: pip could not install the dependencies (above). It needs a network, or PIP_FIND_LINKS/PIP_INDEX_URL" \
            "naming a place that has them; run the same command again, what was done is kept." >&2
        return 1
    fi
    environment_stamp >"$PROJECT/.venv/.kraft-$purpose"
}

environment_interpreter_ready() {
    # What these scripts made is made anew where it was not finished, or was made in another place (a copied checkout).
    # What somebody else made is used when it can be used, and never cleared.
    local python stamp clear=""
    for stamp in "$PROJECT"/.venv/.kraft-{making,run,development}; do
        if [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" != "$PROJECT" ]; then clear="--clear"; fi
    done
    if [ -z "$clear" ] && [ -e "$ENVIRONMENT_BIN/python" ]; then
        "$ENVIRONMENT_BIN/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
        echo "kraft: $PROJECT/.venv holds no Python 3.11 or newer with pip; remove it and run the same command again" >&2
        return 1
    fi
    python="$(environment_find_python)" || return 1
    echo "kraft: making $PROJECT/.venv with $("$python" --version) ($python)" >&2
    mkdir -p "$PROJECT/.venv" && echo unfinished >"$PROJECT/.venv/.kraft-making" &&
        "$python" -m venv $clear "$PROJECT/.venv" && rm -f "$PROJECT/.venv/.kraft-making" && return
    echo "kraft: $python could not make $PROJECT/.venv; is the folder writable, and the disk not full?" >&2
    return 1
}

environment_find_python() {
    local name seen="" too_poor=""
    for name in ${KRAFT_PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
        seen="$seen $name"
        # It is run, not only looked up: a version manager's shim exists for versions that are not there.
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
        if "$name" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
        too_poor="$name"
    done
    if [ -n "$too_poor" ]; then
        echo "kraft: $too_poor has no venv module; install it (Debian, Ubuntu: apt install" \
            "$("$too_poor" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')) and run again" >&2
    else
        echo "kraft: needs Python 3.11 or newer; tried:$seen. Install one, or name it: KRAFT_PYTHON=/path/to/python3.11" >&2
    fi
    return 1
}

environment_requirements() {
    # The dependency group, read without pip's own --group, which the pip inside Python 3.11 to 3.13 does not know.
    [ "$1" = development ] || return 0
    "$ENVIRONMENT_BIN/python" - "$PROJECT/pyproject.toml" <<'PYTHON'
import sys, tomllib

with open(sys.argv[1], "rb") as file:
    print(*tomllib.load(file)["dependency-groups"]["dev"], sep="\n")
PYTHON
}
