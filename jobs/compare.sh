#!/usr/bin/env bash
# compare.sh [OUT]: the comparison in README.md. FST, RL only and GEPA only with three seeds on the variants
# A and hard; the continual run A, B, C; the plasticity probe (RL on B from early and late weights of A).
# FST runs twice: as published (fst) and with kl.seed_prompt = 0.1 (fst_anchor).
# Runs lie in OUT/EXPERIMENT/METHOD/SEED. What is finished is skipped, what was interrupted goes on: run it
# again after a stop. One rank and one thread a run, as many at a time as there are cores.
# SEEDS="21 22 23" and JOBS=2 may be given in the environment; --section.key=value arguments reach every run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/runs/compare
if [[ $# -gt 0 && $1 != --* ]]; then
  out=$1
  shift
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
seeds=${SEEDS:-21 22 23}
jobs=${JOBS:-$(nproc)}
early=${EARLY_STEP:-12} # the fast phase has done its work, the weights have hardly moved
python=${FST_PYTHON:-/usr/bin/python3}
fst=$root/build/fst
extra=("$@")
# shellcheck source=jobs/env.sh
source "$root/jobs/env.sh"
if [[ ! -x $fst ]]; then
  "$root/jobs/install.sh"
  cmake -S "$root" -B "$root/build" -G Ninja
  cmake --build "$root/build" --target fst
fi

# run NAME key=value ...: one run to its end.
run() {
  local name=$1 folder=$out/$1 arguments=() key
  shift
  if [[ -e $folder/finished ]]; then
    echo "done already: $name"
    return 0
  fi
  for key in "$@"; do arguments+=("--$key"); done
  mkdir -p "$folder"
  echo "running: $name"
  local status=0
  stoppable "$fst" run "$root/input/quickstart.cfg" --resume auto --run.output="$folder" \
    --run.rollout_rows_mib=0 --engine.threads=1 "${arguments[@]}" "${extra[@]}" \
    >>"$folder/log.txt" 2>&1 || status=$?
  if [[ $status != 0 ]]; then
    echo "ended with $status: $name, see $folder/log.txt" >&2
    return "$status"
  fi
  touch "$folder/finished"
}

# list EXPERIMENT METHOD key=value ...: that run with every seed, one line each.
list() {
  local experiment=$1 method=$2 seed
  shift 2
  for seed in $seeds; do
    echo "$experiment/$method/$seed run.seed=$seed $*"
  done
}

fst_keys=(run.method=fst)
anchor_keys=(run.method=fst kl.seed_prompt=0.1)
rl_keys=(run.method=rl)
gepa_keys=(run.method=gepa run.steps=36 evolve.anchors=192 evolve.max_metric_calls=960)

first_stage() { # long runs first, so that no core waits at the end
  local keep="run.save_every=$early run.keep_every=$early"
  list A rl "${rl_keys[@]}" run.steps=120 "$keep" eval.also=B
  list A fst "${fst_keys[@]}" run.steps=60 "$keep" eval.also=B
  list A fst_anchor "${anchor_keys[@]}" run.steps=60 "$keep" eval.also=B
  local stages="task.stages=A,B,C task.steps_per_stage=24 run.steps=72"
  list continual fst "${fst_keys[@]}" "$stages"
  list continual fst_anchor "${anchor_keys[@]}" "$stages"
  list continual rl "${rl_keys[@]}" "$stages"
  list A gepa "${gepa_keys[@]}"
  list hard rl "${rl_keys[@]}" task.variant=hard run.steps=72
  list hard fst "${fst_keys[@]}" task.variant=hard run.steps=24
  list hard fst_anchor "${anchor_keys[@]}" task.variant=hard run.steps=24
  list hard gepa "${gepa_keys[@]}" task.variant=hard run.steps=12
}

probe_from() { # METHOD STEP LABEL: RL on B from the weights of that method on A at that step
  local seed
  for seed in $seeds; do
    echo "probe/$3/$seed run.seed=$seed run.method=rl task.variant=B run.steps=48" \
      "model.policy=$out/A/$1/$seed/checkpoint-$2.h5 model.base=$root/input/tiny"
  done
}

second_stage() {
  list probe base run.method=rl task.variant=B run.steps=48
  probe_from rl "$early" rl_early
  probe_from rl 120 rl_late
  probe_from fst "$early" fst_early
  probe_from fst 60 fst_late
  probe_from fst_anchor "$early" fst_anchor_early
  probe_from fst_anchor 60 fst_anchor_late
}

# all STAGE: its runs, `jobs` at a time; fails at the end if one of them failed.
all() {
  local failed=0 line
  while read -r line; do
    while (($(jobs -rp | wc -l) >= jobs)); do wait -n || failed=1; done
    # shellcheck disable=SC2086  # a line is a name and keys without spaces
    run $line &
  done < <("$1")
  while (($(jobs -p | wc -l) > 0)); do wait -n || failed=1; done
  return $failed
}

trap 'kill -USR1 $(jobs -p) 2>/dev/null; wait; exit 75' INT TERM
all first_stage
all second_stage
"$python" "$root/analysis/compare.py" "$out"
