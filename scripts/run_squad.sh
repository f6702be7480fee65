#!/usr/bin/env bash
# SQuAD from data to a score table:
#   bash scripts/run_squad.sh [--framework pytorch|jittor|both] [--preset demo|sampled|paper]
exec bash "$(dirname -- "${BASH_SOURCE[0]}")/run_task.sh" squad "$@"
