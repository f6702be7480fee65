# Sourced by what either environment can run, with the project's root in `root`: sets `python` to $PYTHON, else to the
# Python of the environment that is there.
if [[ -n ${PYTHON:-} ]] && ! command -v "$PYTHON" >/dev/null; then
    echo "${0##*/}: error: PYTHON=$PYTHON: no such interpreter" >&2
    exit 2
fi
python=${PYTHON:-}
for name in pytorch jittor; do
    candidate=$root/.venv_$name/bin/python
    if [[ -z $python && -x $candidate ]]; then python=$candidate; fi
done
if [[ -z $python ]]; then
    echo "${0##*/}: error: neither .venv_pytorch nor .venv_jittor is here: run bash scripts/setup.sh first, or set PYTHON" >&2
    exit 2
fi
