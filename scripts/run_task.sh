#!/usr/bin/env bash
# What run_e2e.sh and its siblings share: bash scripts/run_task.sh TASK [options]; run_e2e.sh --help lists the options.
# PYTHON_PYTORCH and PYTHON_JITTOR name interpreters to use in place of .venv_pytorch and .venv_jittor.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
framework=both
previous=
for word in "$@"; do
    case "$previous=$word" in
        --framework=*) framework=$word ;;
        *=--framework=*) framework=${word#--framework=} ;;
    esac
    previous=$word
done
missing=()
if [[ $framework != jittor && -z ${PYTHON_PYTORCH:-} ]]; then missing+=(pytorch); fi
if [[ $framework != pytorch && -z ${PYTHON_JITTOR:-} ]]; then missing+=(jittor); fi
for name in "${missing[@]}"; do
    bash "$root/scripts/setup.sh" --check "$name" || bash "$root/scripts/setup.sh" "$name"
done
if [[ $framework == jittor ]]; then
    python=${PYTHON_JITTOR:-$root/.venv_jittor/bin/python}
else
    python=${PYTHON_PYTORCH:-$root/.venv_pytorch/bin/python}
fi
exec "$python" "$root/scripts/run_task.py" "$@"
