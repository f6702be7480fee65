#!/usr/bin/env bash
# E2E from data to a score table:
#   bash scripts/run_e2e.sh [--framework pytorch|jittor|both] [--preset demo|sampled|paper]
exec bash "$(dirname -- "${BASH_SOURCE[0]}")/run_task.sh" e2e "$@"
