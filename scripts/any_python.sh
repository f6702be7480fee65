# shellcheck shell=bash disable=SC2034
# Sourced by what either environment can run, behind project.sh: sets `python` to $PYTHON, else to the Python of the
# environment that is there and -E: PYTHONPATH and its like name another Python's packages, which $PYTHON may need.
: "${root:?}"
if [[ -n ${PYTHON:-} ]] && ! command -v "$PYTHON" >/dev/null; then
    echo "${0##*/}: error: PYTHON=$PYTHON: no such interpreter" >&2
    exit 2
fi
python=()
if [[ -n ${PYTHON:-} ]]; then python=("$PYTHON"); fi
for name in pytorch jittor; do
    candidate=$root/.venv_$name/bin/python
    if [[ ${#python[@]} -eq 0 && -x $candidate ]]; then python=("$candidate" -E); fi
done
if [[ ${#python[@]} -eq 0 ]]; then
    echo "${0##*/}: error: neither .venv_pytorch nor .venv_jittor is here: run bash scripts/setup.sh first, or set" \
        "PYTHON" >&2
    exit 2
fi
