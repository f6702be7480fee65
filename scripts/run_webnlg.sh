#!/usr/bin/env bash
# WebNLG from data to a score table:
#   bash scripts/run_webnlg.sh [--framework pytorch|jittor|both] [--preset demo|sampled|paper]
exec bash "$(dirname -- "${BASH_SOURCE[0]}")/run_task.sh" webnlg "$@"
