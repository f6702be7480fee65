#!/usr/bin/env bash
# Checks both trees on a GPU: bash scripts/check_gpu.sh [--framework pytorch|jittor|both] [--device cuda|cpu] [options]
# PYTHON_PYTORCH and PYTHON_JITTOR name interpreters to use in place of .venv_pytorch and .venv_jittor; they need pytest
# and what the trees import, no more, where data/demo/ holds the demo data already.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for python in "${PYTHON_PYTORCH:-$root/.venv_pytorch/bin/python}" "${PYTHON_JITTOR:-$root/.venv_jittor/bin/python}"; do
    if command -v "$python" >/dev/null; then exec "$python" "$root/scripts/check_gpu.py" "$@"; fi
done
echo "check_gpu.sh: error: no environment here: run scripts/setup.sh, or set PYTHON_PYTORCH or PYTHON_JITTOR" >&2
exit 2
