#!/usr/bin/env bash
# Makes .venv_pytorch and .venv_jittor and fills vocab/; does nothing where that is done already.
#   bash scripts/setup.sh [pytorch|jittor|both|vocab] [--check]       vocab fills vocab/ alone
# PYTHON names the interpreter to build on; by default the first that fits of python3, python3.12, 3.11 and 3.10.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
pythons=(python3 python3.12 python3.11 python3.10)
if [[ -n ${PYTHON:-} ]]; then pythons=("$PYTHON"); fi
for python in "${pythons[@]}"; do
    # -E: an environment must not take what PYTHONPATH and its like name for installed.
    if "$python" -E -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        exec "$python" -E "$root/scripts/setup_environment.py" "$@"
    fi
done
echo "setup.sh: error: ${PYTHON:-python3} is missing or not Python 3.10 to 3.12, which torch and Jittor need:" \
    "\`apt-get install python3 python3-venv python3-dev\`, or name another one: PYTHON=/path/to/python3.12" >&2
exit 2
