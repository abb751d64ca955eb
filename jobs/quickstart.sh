#!/usr/bin/env bash
# quickstart.sh [split|colocated] [--section.key=value ...]
# Installs what is missing, builds, and trains the embedded tiny model on the embedded task. Stop it with
# Ctrl-C: it saves a checkpoint; the same command goes on from there.
#
# split:     one rank each for rollout, reflection and learner: what a cluster runs.
# colocated: every rank has every role; the default, since with few cores a rank without work is a core
#            without work (on 2 cores 21 s for 2 ranks against 37 s for split). Same results, bit for bit.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${FST_PYTHON:-/usr/bin/python3}
cores=$(nproc)
layout=colocated
if [[ ${1:-} == split || ${1:-} == colocated ]]; then
  layout=$1
  shift
fi
if [[ $layout == split ]]; then
  ranks=3
  plan=(--ranks.rollout=1 --ranks.reflection=1 --ranks.learner=1)
else
  ranks=$((cores < 8 ? cores : 8))
  plan=()
fi

"$root/jobs/install.sh"
# shellcheck source=jobs/env.sh
source "$root/jobs/env.sh"
cmake -S "$root" -B "$root/build" -G Ninja -DFST_TESTS="${FST_TESTS:-OFF}" >/dev/null
cmake --build "$root/build" --target fst

out=$root/runs/quickstart
for argument in "$@"; do
  [[ $argument == --run.output=* ]] && out=${argument#--run.output=}
done
echo "quickstart: $layout on $ranks ranks, $cores cores; run folder $out"
status=0
stoppable mpirun -n "$ranks" "$root/build/fst" run "$root/input/quickstart.cfg" --resume auto \
  "${plan[@]}" --run.output="$out" "$@" || status=$?
if [[ $status == 75 ]]; then
  echo "quickstart: stopped with a checkpoint; run the same command to go on"
fi
[[ $status == 0 ]] || exit "$status"

mkdir -p "$out/figures"
"$python" "$root/analysis/learning_curve.py" "$out" --out "$out/figures/learning_curve.png"
"$python" "$root/analysis/kl_reward.py" "$out" --out "$out/figures/kl_reward.png"
"$python" "$root/analysis/frontier.py" "$out" --out "$out/figures/frontier.png"
"$python" "$root/analysis/lineage.py" "$out" --out "$out/figures/lineage.png" >"$out/figures/lineage.txt"
"$python" "$root/analysis/summary.py" "$out"
