#!/bin/sh
# Time per kernel of one step of decoding (batch 1, 8, 64) and one prefill of 512 tokens on the first GPU, and of a step
# queued piece by piece and as a record. Random weights in the shape of Qwen3-0.6B.
#   tests/gpu/profile.sh [context [CONFIG_JSON]]
# FST_BUILD names the build folder (build); fst_gpu_profile in it is built if it is not there. Where Nsight Compute is
# installed, FST_NCU=1 also measures, for the kernels of a step, how much of memory's and the cores' speed they reach.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${FST_BUILD:-$root/build}
program=$build/tests/gpu/fst_gpu_profile
context=${1:-512}
config=${2:-$root/tests/bench/qwen3_0.6b.json}
[ -x "$program" ] || cmake --build "$build" --target fst_gpu_profile
"$program" "$config" "$context"
if [ "${FST_NCU:-0}" = 1 ] && command -v ncu > /dev/null; then
  # The second step of batch 1, past the 30 fills and what makes the model.
  ncu --launch-skip 1200 --launch-count 60 --section SpeedOfLight --section Occupancy --section LaunchStats \
    "$program" "$config" "$context"
fi
