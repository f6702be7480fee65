#!/usr/bin/env bash
# How fast the programs are, and in how much memory: bash scripts/bench.sh [train|beam|eval|all] [options]
#   bash scripts/bench.sh --help                         all options
#   bash scripts/bench.sh                                 everything, on a GPU GPT-2 medium, on a CPU gpt2-nano
#   bash scripts/bench.sh train --precision fp32 --steps 50 --output /tmp/bench
# PYTHON_PYTORCH and PYTHON_JITTOR name interpreters to use in place of .venv_pytorch and .venv_jittor.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
framework=all
previous=
for word in "$@"; do
    if [[ $word == --help || $word == -h ]]; then exec "${PYTHON_PYTORCH:-python3}" "$root/scripts/bench.py" --help; fi
    case "$previous=$word" in
        --framework=*) framework=$word ;;
        *=--framework=*) framework=${word#--framework=} ;;
    esac
    previous=$word
done
missing=()
if [[ $framework != jittor && -z ${PYTHON_PYTORCH:-} ]]; then missing+=(pytorch); fi
if [[ $framework != pytorch && $framework != peft && -z ${PYTHON_JITTOR:-} ]]; then missing+=(jittor); fi
for name in "${missing[@]}"; do
    bash "$root/scripts/setup.sh" --check "$name" || bash "$root/scripts/setup.sh" "$name"
done
if [[ $framework == jittor ]]; then
    python=${PYTHON_JITTOR:-$root/.venv_jittor/bin/python}
else
    python=${PYTHON_PYTORCH:-$root/.venv_pytorch/bin/python}
fi
exec "$python" "$root/scripts/bench.py" "$@"
