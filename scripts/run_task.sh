#!/usr/bin/env bash
# What run_e2e.sh and its siblings share: bash scripts/run_task.sh TASK [options]; run_e2e.sh --help lists the options.
# PYTHON_PYTORCH and PYTHON_JITTOR name interpreters to use in place of .venv_pytorch and .venv_jittor.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
framework=both
source "$root/scripts/choose_python.sh"
exec "${python[@]}" "$root/scripts/run_task.py" "$@"
