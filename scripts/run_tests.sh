#!/usr/bin/env bash
# Runs the tests: bash scripts/run_tests.sh [pytorch|jittor|all] [-- pytest options]
# tests/common and tests/pytorch run in .venv_pytorch, tests/jittor in .venv_jittor; tests/alignment, which runs both
# trees' programs, only with all. With jittor alone, tests/common runs in .venv_jittor.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 2
which=all
if [[ $# -gt 0 && $1 != -- ]]; then which=$1; shift; fi
if [[ $# -gt 0 && $1 == -- ]]; then shift; fi
case $which in
    all) environments=both; groups=("pytorch:tests/common tests/pytorch" "jittor:tests/jittor" "pytorch:tests/alignment") ;;
    pytorch) environments=pytorch; groups=("pytorch:tests/common tests/pytorch") ;;
    jittor) environments=jittor; groups=("jittor:tests/common" "jittor:tests/jittor") ;;
    *) echo "run_tests.sh: error: found '$which', expected pytorch, jittor or all (pytest's options follow --)" >&2; exit 2 ;;
esac
bash scripts/setup.sh --check "$environments" || bash scripts/setup.sh "$environments" || exit $?
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
status=0
for index in "${!groups[@]}"; do
    framework=${groups[index]%%:*}
    read -ra folders <<<"${groups[index]#*:}"
    echo "== ${folders[*]} in .venv_$framework"
    ".venv_$framework/bin/python" -m pytest "${folders[@]}" --junitxml="$reports/$index.xml" -o junit_family=xunit2 "$@" \
        </dev/null || status=1
done
".venv_${environments/both/pytorch}/bin/python" scripts/maintain/count_tests.py "$reports" "${#groups[@]}" || status=1
exit "$status"
