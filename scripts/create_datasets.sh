#!/usr/bin/env bash
# Brings E2E, WebNLG, DART and SQuAD, checks, converts and encodes them.
#   bash scripts/create_datasets.sh [e2e|webnlg|dart|squad|all] [--source DIR]
# PYTHON names the Python to use; by default that of .venv_pytorch or .venv_jittor, whichever exists.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
source "$root/scripts/any_python.sh"
exec "${python[@]}" "$root/scripts/create_datasets.py" "$@"
