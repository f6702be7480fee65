#!/usr/bin/env bash
# Runs ruff and the tests: bash scripts/run_tests.sh [pytorch|jittor|all] [-- pytest options]
# With all, .venv_pytorch runs what it can (tests/__init__.py says what that is), .venv_jittor the Jittor tree's tests,
# and tests/alignment, which runs both trees' programs, comes last; with one framework, its environment runs what it
# can, but for tests/alignment. Quickly: bash scripts/run_tests.sh -- -m "not slow"
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # for who starts it with sh
set -uo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/project.sh"
cd "$root" || exit 2
which=all
if [[ $# -gt 0 && $1 != -- ]]; then which=$1; shift; fi
if [[ $# -gt 0 && $1 == -- ]]; then shift; fi
case $which in
    all)
        environments=both
        groups=("pytorch:tests --ignore=tests/alignment" "jittor:tests/jittor tests/trees" "pytorch:tests/alignment") ;;
    pytorch | jittor) environments=$which; groups=("$which:tests --ignore=tests/alignment") ;;
    *)
        echo "run_tests.sh: error: found '$which', expected pytorch, jittor or all (pytest's options follow --)" >&2
        exit 2 ;;
esac
bash scripts/setup.sh --check "$environments" || bash scripts/setup.sh "$environments" || exit $?
# -E: PYTHONPATH and its like name another Python's packages.
python=(".venv_${environments/both/pytorch}/bin/python" -E)
reports=$(mktemp -d) || exit 2
trap 'rm -rf "$reports"' EXIT
status=0
echo "== ruff check"
"${python[@]}" -m ruff check . || status=1
"${python[@]}" -m ruff check --quiet --output-format junit --output-file "$reports/ruff.xml" .
for index in "${!groups[@]}"; do
    framework=${groups[index]%%:*}
    read -ra words <<<"${groups[index]#*:}"
    echo "== ${words[*]} in .venv_$framework"
    code=0
    ".venv_$framework/bin/python" -E -m pytest "${words[@]}" --junitxml="$reports/$index.xml" \
        -o junit_family=xunit2 "$@" </dev/null || code=$?
    # 5: none of this group's tests was chosen, which is right where options choose.
    if [[ $code -ne 0 && ! ( $code -eq 5 && $# -gt 0 ) ]]; then status=1; fi
done
"${python[@]}" scripts/maintain/count_tests.py "$reports" "${#groups[@]}" "$@" || status=1
exit "$status"
