# shellcheck shell=bash disable=SC2034
# Sourced by the drivers, behind project.sh, with their command line and with the default of --framework in `framework`:
# makes the environments that are missing, and sets `python` to the one in which the driver itself runs, with -E, for
# PYTHONPATH and its like name another Python's packages; an interpreter of the user's own may need those. Neither
# --help nor a --framework that is none makes an environment.
: "${root:?}" "${framework:?}"
previous=
help=
for word in "$@"; do
    case "$previous=$word" in
        --framework=*) framework=$word ;;
        *=--framework=*) framework=${word#--framework=} ;;
        *=--help | *=-h) help=yes ;;
    esac
    previous=$word
done
case $framework in
    pytorch | jittor | both | peft | all) ;;
    *)
        echo "${0##*/}: error: found '$framework', expected pytorch, jittor or both" >&2
        exit 2 ;;
esac
if [[ -n $help ]]; then
    own=${PYTHON_PYTORCH:-${PYTHON_JITTOR:-}}
    if [[ -n $own ]]; then python=("$own"); return; fi
    for name in pytorch jittor; do
        folder=$root/.venv_$name
        if [[ -f $folder/setup_stamp.json ]]; then python=("$folder/bin/python" -E); return; fi
    done
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    echo "All options are listed once there is an environment, which bash scripts/setup.sh makes."
    exit 0
fi
missing=()
if [[ $framework != jittor && -z ${PYTHON_PYTORCH:-} ]]; then missing+=(pytorch); fi
if [[ $framework != pytorch && $framework != peft && -z ${PYTHON_JITTOR:-} ]]; then missing+=(jittor); fi
if [[ ${#missing[@]} -eq 2 ]]; then missing=(both); fi
for name in "${missing[@]}"; do
    bash "$root/scripts/setup.sh" --check "$name" || bash "$root/scripts/setup.sh" "$name"
done
if [[ $framework == jittor ]]; then
    name=jittor own=${PYTHON_JITTOR:-}
else
    name=pytorch own=${PYTHON_PYTORCH:-}
fi
if [[ -n $own ]]; then python=("$own"); else python=("$root/.venv_$name/bin/python" -E); fi
if [[ ${#missing[@]} -eq 0 ]]; then
    PYTHON=$own bash "$root/scripts/setup.sh" --check vocab || PYTHON=$own bash "$root/scripts/setup.sh" vocab
fi
