#!/usr/bin/env bash
# Shows that both frameworks compute the same, or names the first operation that differs.
#   bash scripts/align.sh                                          both, on the demo data
#   bash scripts/align.sh --task dart --preset sampled --steps 1000
#   bash scripts/align.sh --dump pytorch --output a.npz            on one machine
#   bash scripts/align.sh --dump jittor --inputs a.npz --output b.npz      on another
#   bash scripts/align.sh --compare a.npz b.npz                    on either
# bash scripts/align.sh --help lists the options. PYTHON_PYTORCH and PYTHON_JITTOR name interpreters to use in place of
# .venv_pytorch and .venv_jittor.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
framework=both
previous=
for word in "$@"; do
    case "$previous=$word" in
        --dump=*) framework=$word ;;
        *=--dump=*) framework=${word#--dump=} ;;
        *=--compare | *=--help | *=-h) framework=none ;;
    esac
    previous=$word
done
if [[ $framework == none ]]; then
    PYTHON=${PYTHON:-${PYTHON_PYTORCH:-${PYTHON_JITTOR:-}}}
    source "$root/scripts/any_python.sh"
else
    source "$root/scripts/choose_python.sh"
fi
exec "${python[@]}" "$root/scripts/align.py" "$@"
