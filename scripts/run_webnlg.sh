#!/usr/bin/env bash
# WebNLG from data to a score table:
#   bash scripts/run_webnlg.sh [--framework pytorch|jittor|both] [--preset demo|sampled|paper]
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
exec bash "$(dirname -- "${BASH_SOURCE[0]}")/run_task.sh" webnlg "$@"
