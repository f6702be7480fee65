#!/usr/bin/env bash
# Brings pretrained GPT-2 backbones into pretrained_checkpoints/.
#   bash scripts/download_pretrained_checkpoints.sh [gpt2|gpt2-medium|gpt2-large|gpt2-xl]... [--source DIR]
# PYTHON names the Python to use; by default that of .venv_pytorch or .venv_jittor, whichever exists.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
source "$root/scripts/any_python.sh"
exec "${python[@]}" "$root/scripts/download_pretrained_checkpoints.py" "$@"
