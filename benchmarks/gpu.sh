#!/usr/bin/env bash
# The measurements for a machine with one GPU, and a JAX that uses it, in at most 8 minutes:
#
#   [PYTHON=.venv/bin/python] [OUT=DIR] [SMALL=1] bash benchmarks/gpu.sh
#
# A part of the tests; a fit of 10 000 samples of a full-size StyleGAN2 at 512 channels on 16 x 16, and its time beyond
# the features; generators against the rate of a matrix product; edits against plain resumes; seconds from a command to
# its result. SMALL=1 runs all steps at small sizes, on any machine. Every step has a time limit; a step that fails or
# exceeds it does not stop the others. Writes gpu-NAME.json into OUT, and gpu-steps.json with the end of each step; the
# exit status is the number of failed steps.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-benchmarks/results}
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache  # begin without compiled programs
mkdir -p "$OUT" "$work/results"
failed=0

step() {  # NAME SECONDS COMMAND...
  local name=$1 most=$2 began=$SECONDS status=0
  shift 2
  echo "== $name: $*"
  timeout --kill-after=5 "$((most * patience))" "$@" || status=$?
  [ "$status" -eq 0 ] || failed=$((failed + 1))
  echo "== $name: $((SECONDS - began)) s, exit status $status"
  echo "$name $((SECONDS - began)) $status" >>"$work/steps"
}

kept() {  # FILE NAME: copies a result to its final name
  [ ! -s "$work/results/$1" ] || cp "$work/results/$1" "$OUT/gpu-$2.json"
}

if [ -n "${SMALL:-}" ]; then
  patience=5  # a CPU may be slow and busy
  tests=(tests/solver/test_moments.py)
  fit=(--resolution=32 --layer=3 --samples=64 --parts=3)
  generators=(--set=bench --cases=biggan-plain --batches=1 --dtypes=float32 --seconds=0)
  edits=(--generator=cats64 --samples=24 --parts=2 --batches=1 --seconds=0 --refined=1)
  commands=fit_toy
else
  patience=1
  tests=(tests/solver tests/features tests/generators/test_stylegan2.py tests/editing/test_editor.py)
  fit=()
  generators=(--set=full --cases=stylegan2,stylegan3-t,stylegan3-r,progan --batches=8 --seconds=1)
  edits=(--batches=1,32 --seconds=2)
  commands=fit_toy,fit_generator
fi

step tests 80 "$PYTHON" -m pytest -q -n4 -m 'not slow' "${tests[@]}"
step fit 110 "$PYTHON" -m benchmarks.large_fit "${fit[@]}" --out="$work/results"
kept large_fit.json fit
step generators 90 "$PYTHON" -m benchmarks.generators "${generators[@]}" --out="$work/results"
for file in "$work"/results/generators-*.json; do kept "$(basename "$file")" generators; done
step edits 50 "$PYTHON" -m benchmarks.edits "${edits[@]}" --out="$work/results"
for file in "$work"/results/edits-*.json; do kept "$(basename "$file")" edits; done
step startup 140 "$PYTHON" -m benchmarks.startup --commands=$commands --repeats=1 --out="$work/results"
kept startup.json startup

"$PYTHON" - "$work/steps" "$OUT/gpu-steps.json" <<'PYTHON'
import sys
from pathlib import Path

from benchmarks.machine import machine, written

rows = [line.split() for line in Path(sys.argv[1]).read_text().splitlines()]
steps = {name: {'seconds': int(seconds), 'exit_status': int(status)} for name, seconds, status in rows}
print('wrote', written(machine() | {'steps': steps}, Path(sys.argv[2])))
PYTHON
exit "$failed"
