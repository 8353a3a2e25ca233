#!/bin/bash
# Make .venv with everything runsc-py needs and the project installed in place. Run by `make venv`; safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# The real interpreter behind `python3`, 3.11 or later: a version manager's shim would cost each start 100 ms.
find_python() {
    local candidate real
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        real=$("$candidate" -c 'import os, sys
if sys.version_info >= (3, 11): print(os.path.realpath(sys.executable))' 2>/dev/null) || continue
        [ -n "$real" ] && { echo "$real"; return; }
    done
    die "no Python >= 3.11 found (set PYTHON=/path/to/python3)"
}

python=$(find_python)
say "using $python ($("$python" -V))"

missing=()
have gcc || missing+=(gcc libc6-dev)
have git || missing+=(git)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
[ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] || missing+=(python3-dev)
printf '#include <sys/types.h>\n' | gcc -E - >/dev/null 2>&1 || missing+=(libc6-dev)
"$python" -c 'import ctypes.util, sys; sys.exit(not ctypes.util.find_library("seccomp"))' 2>/dev/null || missing+=(libseccomp2)
need_packages "${missing[@]}"

if ! [ -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
    say "creating .venv"
    rm -rf .venv
    "$python" -m venv .venv
fi

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

say "installing the libraries runsc-py uses (pip)"
pip install --quiet --upgrade "setuptools>=66,<82" wheel "cffi>=1.15,<3"
say "installing runsc-py in place"
# compat mode is a plain .pth line; the default finder hook would cost every start some milliseconds.
RUNSC_PY_NO_CORE=1 pip install --quiet --no-build-isolation --config-settings editable_mode=compat --editable ".[dev]"

# setuptools' own start-up hook (imported by every start of the interpreter) is of no use to us.
rm -f .venv/lib/python3*/site-packages/distutils-precedence.pth

.venv/bin/python - <<'PY'
import sys
from importlib.util import find_spec
for name in ("click", "cffi", "jeepney", "psutil", "pyseccomp", "ptrace"):
    if find_spec(name) is None:
        sys.exit(f"error: {name} did not install")
PY
touch .venv/.installed
say "ready: .venv/bin/runsc-py"
