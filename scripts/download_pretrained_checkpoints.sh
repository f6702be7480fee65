#!/usr/bin/env bash
# Brings pretrained GPT-2 backbones into pretrained_checkpoints/. Usage:
#
#   bash scripts/download_pretrained_checkpoints.sh [gpt2|gpt2-medium|gpt2-large]... [--source DIR]
#
# $PYTHON names the interpreter; by default that of .venv_pytorch or .venv_jittor.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
for python in ${PYTHON:+"$PYTHON"} "$root/.venv_pytorch/bin/python" "$root/.venv_jittor/bin/python"; do
    if command -v "$python" >/dev/null; then
        exec "$python" "$root/scripts/download_pretrained_checkpoints.py" "$@"
    elif [ -n "${PYTHON:-}" ]; then
        echo "PYTHON=$PYTHON: no such interpreter" >&2
        exit 2
    fi
done
echo "no .venv_pytorch and no .venv_jittor here: run  bash scripts/setup.sh  first, or set PYTHON" >&2
exit 2
