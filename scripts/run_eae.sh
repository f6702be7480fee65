#!/usr/bin/env bash
# Event argument extraction from data to a score table:
#   bash scripts/run_eae.sh [--framework pytorch|jittor|both] [--preset demo|phee|rams] [--source DIR] [options]
# run_eae.sh --help lists the options. PYTHON_PYTORCH and PYTHON_JITTOR name interpreters to use in place of
# .venv_pytorch and .venv_jittor.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
framework=both
source "$root/scripts/choose_python.sh"
exec "${python[@]}" "$root/scripts/run_eae.py" "$@"
