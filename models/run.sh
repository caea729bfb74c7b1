#!/bin/sh
# Checks the models with spin, one process at a time: every sound model has to hold in an exhausted search, and every broken variant has to violate
# the assertion that its model names for it. Usage: models/run.sh [model ...]
#
# A model's opening comment has a line for each search of the sound model, and one for each broken variant with a part of the assertion:
#   run: <definitions>
#   broken: <variant> <definitions> : <text of the assertion>
set -u
cd "$(dirname "$0")" || exit 1

if ! command -v spin >/dev/null || ! command -v gcc >/dev/null; then
  echo 'The models need spin and a C compiler: apt-get install spin gcc' >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work" "$work".*' EXIT
failed=0

# Generates, compiles and runs a model in $work. $1: the model. $2: definitions.
search() {
  rm -f "$work"/*
  # $2 is split on purpose: each word is a definition.
  # shellcheck disable=SC2086
  (cd "$work" && spin -a $2 "$OLDPWD/$1.pml" >spin.out 2>&1 &&
    gcc -O2 -DSAFETY -DCOLLAPSE -DMEMLIM=4000 -w -o pan pan.c >gcc.out 2>&1 &&
    timeout 300 ./pan -m3000000 -w24 >pan.out 2>&1)
}

# Whether the whole state space was searched.
exhausted() {
  ! grep -q -e 'Search not completed' -e 'max search depth too small' -e 'out of memory' -e 'truncated' "$work/pan.out" &&
    grep -q 'elapsed time' "$work/pan.out"
}

figures() {
  awk '/states, stored/ { states = $1 } /depth reached/ { depth = $6; sub(",", "", depth) } /elapsed time/ { time = $4 }
    /total actual memory/ { memory = $1 } END { printf "%s states, depth %s, %s s, %s MB", states, depth, time, memory }' "$work/pan.out"
}

report() {
  printf '%-7s %-60s %s\n' "$1" "$2" "$3"
  if [ "$1" = FAILED ]; then
    failed=1
    cat "$work"/*.out
  fi
}

sound() {
  if search "$1" "$2" && grep -q 'errors: 0' "$work/pan.out" && exhausted
  then report holds "$1 $2" "$(figures)"
  else report FAILED "$1 $2" 'it does not hold, or was not searched to the end'
  fi
}

# $3: a part of the assertion that the variant has to violate. Another error, such as an index outside an array, is none of the defect's.
broken() {
  search "$1" "$2"
  if [ -f "$work/pan.out" ] && grep 'assertion violated' "$work/pan.out" | grep -qF -e "$3"
  then report 'is seen' "$1 $2" "$(figures)"
  else report FAILED "$1 $2" "the defect was not seen: no violation of $3"
  fi
}

check() {
  model=$1
  sed -n 's/^ \* run: *//p' "$model.pml" >"$work.runs"
  sed -n 's/^ \* broken: *//p' "$model.pml" >"$work.variants"
  while IFS= read -r definitions; do sound "$model" "$definitions"; done <"$work.runs"
  while IFS= read -r variant; do broken "$model" "-DBROKEN_${variant%% : *}" "${variant#* : }"; done <"$work.variants"
  for variant in $(grep -o 'BROKEN_[A-Z_]*' "$model.pml" | sort -u); do
    grep -q "^${variant#BROKEN_} " "$work.variants" || report FAILED "$model $variant" 'no assertion is named for it'
  done
  rm -f "$work.runs" "$work.variants"
}

if [ $# -eq 0 ]; then for file in *.pml; do check "${file%.pml}"; done
else for model; do check "$model"; done
fi
exit $failed
