#!/usr/bin/env bash
# Checks both trees on a GPU: bash scripts/check_gpu.sh [--framework pytorch|jittor|both] [--device cuda|cpu] [options]
# PYTHON_PYTORCH and PYTHON_JITTOR name interpreters to use in place of .venv_pytorch and .venv_jittor; they need pytest
# and what the trees import, no more, where data/demo/ holds the demo data already.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
PYTHON=${PYTHON:-${PYTHON_PYTORCH:-${PYTHON_JITTOR:-}}}
source "$root/scripts/any_python.sh"
exec "${python[@]}" "$root/scripts/maintain/check_gpu.py" "$@"
