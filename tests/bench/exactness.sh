#!/usr/bin/env bash
# exactness.sh [MODELS [option of exactness.py ...]]: what the canonical sums cost, see README.md. MODELS, by default
# build/bench_models, is the folder for models with random weights (1.2 GB), made when they are missing.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${FST_BUILD:-$root/build}
models=$(realpath -m "${1:-$build/bench_models}")
shift $(($# > 0))

cmake -S "$root" -B "$build" -G Ninja >/dev/null
cmake --build "$build" --target model_bench_plain
python3 "$root/tests/bench/exactness.py" --build "$build" --models "$models" --json "$models/exactness.json" "$@"
