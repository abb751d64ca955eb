#!/usr/bin/env bash
# soak_restart.sh [KILLS] [SEED]: kills a run KILLS times (default 100) with SIGKILL at random moments, goes on
# each time with a random other layout, and compares each finished run with an undisturbed one, bit for bit.
# Prints the seed, each kill and the result; exit 0 if all runs were equal. Needs build/fst (or FST).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=jobs/env.sh
source "$root/jobs/env.sh"
export FST=${FST:-$root/build/fst} FST_KILLS=${1:-100} FST_SEED=${2:-$RANDOM$RANDOM}
[[ -x $FST ]] || { echo "soak_restart.sh: there is no program $FST; build it, or name it in FST" >&2; exit 2; }
exec python3 "$root/tests/system/jobs/kill_test.py"
