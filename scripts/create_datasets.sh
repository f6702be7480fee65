#!/usr/bin/env bash
# Brings E2E, WebNLG, DART and SQuAD, checks, converts and encodes them.
#   bash scripts/create_datasets.sh [e2e|webnlg|dart|squad|all] [--source DIR]
# PYTHON names the Python to use; by default that of .venv_pytorch or .venv_jittor, whichever exists.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-}
for candidate in "$root/.venv_pytorch/bin/python" "$root/.venv_jittor/bin/python"; do
    if [[ -z $python && -x $candidate ]]; then
        python=$candidate
    fi
done
if [[ -z $python ]]; then
    echo "create_datasets.sh: error: no Python environment: run \`bash scripts/setup.sh\` first, or set PYTHON" >&2
    exit 2
fi
exec "$python" "$root/scripts/create_datasets.py" "$@"
