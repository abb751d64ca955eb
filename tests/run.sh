#!/usr/bin/env bash
# run.sh: installs what is missing, builds everything and runs all tests but those labelled slow. First the
# unit tests under AddressSanitizer and UBSan, and the thread pool under ThreadSanitizer; the plain build's
# CTest summary comes last. Fails if any part failed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
cores=${FST_TEST_CORES:-2}

# A killed mpirun leaves these behind.
find /dev/shm -maxdepth 1 -user "$(id -u)" \( -name 'vader_segment.*' -o -name 'fst-*' \) -mmin +60 -delete 2>/dev/null || true
find "${TMPDIR:-/tmp}" -maxdepth 1 -user "$(id -u)" -name 'ompi.*' -mmin +60 -exec rm -rf {} + 2>/dev/null || true

jobs/install.sh slurm-wlm python3-pip
# shellcheck source=jobs/env.sh
source jobs/env.sh
started=$SECONDS
# Leaks are not looked for: Open MPI's own cannot be told apart from ours.
export ASAN_OPTIONS=detect_leaks=0
results=()
light=(-DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1)

# part NAME FUNCTION: runs it and notes how it ended. set -e does not act in there: chain with &&.
part() {
  local name=$1 begun=$SECONDS status=0
  shift
  echo "== $name"
  "$@" || status=$?
  results+=("$name: $([[ $status == 0 ]] && echo passed || echo "FAILED ($status)"), $((SECONDS - begun)) s")
  return 0
}

# shellcheck disable=SC2317  # called through part
configure() { # FOLDER option ...
  local folder=$1
  shift
  cmake -S . -B "$folder" -G Ninja -DFST_WERROR=ON "$@" >/dev/null
}

# shellcheck disable=SC2317
addresses() {
  configure build-asan -DFST_SANITIZE=address,undefined "${light[@]}" &&
    cmake --build build-asan -j "$cores" --target unit_tests &&
    ctest --test-dir build-asan -j "$cores" -L unit -LE 'golden|slow' --output-on-failure --no-tests=error
}

# shellcheck disable=SC2317
threads() {
  configure build-tsan -DFST_JOB=OFF -DFST_SANITIZE=thread "${light[@]}" &&
    cmake --build build-tsan -j "$cores" --target kernels_tests &&
    ctest --test-dir build-tsan -j "$cores" -R '^kernels\..*([Tt]hread|[Pp]ool)' --output-on-failure --no-tests=error
}

plain() {
  tests/gpu/tools.sh build/cuda-tools || echo "run.sh: no cuobjdump, so the kernels' compiled code is not looked at"
  configure build -DFST_TESTS=ON && cmake --build build -j "$cores" || return 1
  echo "== all tests of the plain build; before them, in $((SECONDS - started)) s:"
  printf '%s\n' "${results[@]}"
  ctest --test-dir build -j "$cores" -LE slow --output-on-failure --no-tests=error
}

if [[ -z ${FST_NO_SANITIZERS:-} ]]; then
  part "unit tests under AddressSanitizer and UBSan" addresses
  part "thread pool under ThreadSanitizer" threads
fi
status=0
plain || status=$?
for line in "${results[@]}"; do
  [[ $line == *FAILED* ]] && status=1
done
exit "$status"
