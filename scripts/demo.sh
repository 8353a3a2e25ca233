#!/bin/bash
# A sandboxed session on screen, over this machine's own root: read-only below, with a memory layer on top.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# ps comes from procps, which a minimal machine lacks; the sandbox shows the host's programs.
if ! have ps && [ "$(id -u)" = 0 ]; then need_packages procps; fi

say ".venv/bin/runsc-py do -- sh -c 'uname -a; id; ps; ls /'"
exec .venv/bin/runsc-py do -- sh -c 'uname -a; id; ps; ls /'
