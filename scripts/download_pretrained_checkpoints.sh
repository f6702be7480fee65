#!/usr/bin/env bash
# Brings pretrained backbones into pretrained_checkpoints/.
#   bash scripts/download_pretrained_checkpoints.sh [NAME]... [--source DIR]           --help lists the names
# PYTHON names the Python to use; by default that of .venv_pytorch or .venv_jittor, whichever exists.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
source "$root/scripts/any_python.sh"
exec "${python[@]}" "$root/scripts/download_pretrained_checkpoints.py" "$@"
