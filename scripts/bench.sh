#!/usr/bin/env bash
# How fast the programs are, and in how much memory: bash scripts/bench.sh [train|beam|eval|all] [options]
#   bash scripts/bench.sh --help                         all options
#   bash scripts/bench.sh                                 everything, on a GPU GPT-2 medium, on a CPU gpt2-nano
#   bash scripts/bench.sh train --precision fp32 --steps 50 --output /tmp/bench
# PYTHON_PYTORCH and PYTHON_JITTOR name interpreters to use in place of .venv_pytorch and .venv_jittor.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
framework=all
source "$root/scripts/choose_python.sh"
exec "${python[@]}" "$root/scripts/bench/bench.py" "$@"
