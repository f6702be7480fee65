#!/usr/bin/env bash
# Makes .venv_pytorch and .venv_jittor and fills vocab/; does nothing where that is done already.
#   bash scripts/setup.sh [pytorch|jittor|both] [--check]
# PYTHON names the interpreter to build on (3.10 to 3.12); by default python3.
set -euo pipefail
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    echo "setup.sh: error: no $python found: install Python 3.10 to 3.12, or set PYTHON" >&2
    exit 2
fi
exec "$python" "$(dirname "${BASH_SOURCE[0]}")/setup_environment.py" "$@"
