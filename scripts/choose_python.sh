# Sourced by the drivers with their command line and with the default of --framework in `framework`: makes the environments
# that are missing, and sets `python` to the one in which the driver itself runs.
previous=
for word in "$@"; do
    case "$previous=$word" in
        --framework=*) framework=$word ;;
        *=--framework=*) framework=${word#--framework=} ;;
    esac
    previous=$word
done
missing=()
if [[ $framework != jittor && -z ${PYTHON_PYTORCH:-} ]]; then missing+=(pytorch); fi
if [[ $framework != pytorch && $framework != peft && -z ${PYTHON_JITTOR:-} ]]; then missing+=(jittor); fi
for name in "${missing[@]}"; do
    bash "$root/scripts/setup.sh" --check "$name" || bash "$root/scripts/setup.sh" "$name"
done
if [[ $framework == jittor ]]; then
    python=${PYTHON_JITTOR:-$root/.venv_jittor/bin/python}
else
    python=${PYTHON_PYTORCH:-$root/.venv_pytorch/bin/python}
fi
if [[ ${#missing[@]} -eq 0 ]]; then
    PYTHON=$python bash "$root/scripts/setup.sh" --check vocab || PYTHON=$python bash "$root/scripts/setup.sh" vocab
fi
