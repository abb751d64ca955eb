#!/usr/bin/env bash
# Certifies the CUDA kernels on the GPU of this machine: tests, then times beside torch. README.md.
#
#   certify.sh [--emulated] [--times TEXT] [--out DIR]
#
# --emulated  tiny sizes on the emulator, without torch: shows that this script works.
# --times     no tests, and of the times those of the device copy and of cases whose name has TEXT.
# FST_BUILD   a build folder with the programs; without it, one is configured and built here.
# Exit status: 0 all was done and passed, 1 something failed, 2 wrong use, 3 part of it was not done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
emulated=no out=certificate only=
while [ $# -gt 0 ]; do
  case $1 in
    --emulated) emulated=yes ;;
    --times) only=${2:?--times needs a text}; shift ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
  shift
done
mkdir -p "$out"
rm -f "$out"/{own,peer}-*.jsonl "$out"/tests.json "$out"/certificate.json
say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }

# Finds the program $1 in the folders below the build; empty where it was not built.
program() { find "$build" -name "$1" -type f -perm -u+x -print -quit; }

if [ $emulated = yes ]; then
  build=${FST_BUILD:?--emulated needs FST_BUILD, a build folder of the project}
  check=$(program emulated_tests) bench=$(program fst_gpu_bench_emulated) products=$(program fst_gpu_products_emulated)
  filter='Determinism*' bench_options=(--tiny) products_options=(--tiny)
else
  build=${FST_BUILD:-}
  if [ -z "$build" ]; then
    build=$out/build
    say "building in $build"
    cmake -S "$here" -B "$build" -G Ninja > "$out/build.log"
    cmake --build "$build" >> "$out/build.log"
  fi
  check=$(program fst_gpu_check) bench=$(program fst_gpu_bench) products=$(program fst_gpu_products)
  filter='*' bench_options=(--seconds 60) products_options=()
  export FST_CUDA_LARGE=1
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,power.limit --format=csv,noheader || true
fi
if [ -n "$only" ]; then
  check='' products=''
  bench_options+=(--filter "$only")
fi
[ -n "$bench" ] || { say "no benchmark in $build"; exit 1; }

failed=0 table=()
if [ -n "$check" ]; then
  say "tests: $check"
  timeout 240 "$check" --gtest_brief=1 --gtest_filter="$filter" --gtest_output="json:$out/tests.json" \
    > "$out/tests.log" 2>&1 || { failed=1; tail -20 "$out/tests.log"; }
  if [ $emulated = no ]; then
    grep '^cuDNN ' "$out/tests.log" || say "cuDNN's attention was not compared: $(grep -m1 'cuDNN: none' "$out/tests.log" || echo 'see tests.log')"
  fi
  [ ! -s "$out/tests.json" ] || table+=(--tests "$out/tests.json")
else
  say "tests: not run, not wanted or fst_gpu_check was not built (GoogleTest?)"
fi

# What a job in bf16 would find when it begins; nothing of it is needed for the certificate.
if [ -n "$products" ]; then
  say "cuBLASLt beside our products of bf16 matrices"
  timeout 120 "$products" "${products_options[@]}" | tee "$out/products.txt" || { [ $emulated = no ] || failed=1; say "cuBLASLt: not all was compared"; }
fi

# Ours, the peer's twice, ours: what drifts with the clock or the heat falls on both alike.
say "times"
"$bench" "${bench_options[@]}" > "$out/own-1.jsonl" || failed=1
peers=()
if [ $emulated = no ] && python3 -c 'import torch' 2> /dev/null; then
  for pass in 1 2; do
    python3 "$here/peer.py" "$out/own-1.jsonl" --seconds 60 > "$out/peer-$pass.jsonl" || failed=1
    peers+=("$out/peer-$pass.jsonl")
  done
fi
"$bench" "${bench_options[@]}" > "$out/own-2.jsonl" || failed=1
[ ${#peers[@]} -eq 0 ] || table+=(--peer "${peers[@]}")

status=0
python3 "$here/table.py" "$out/certificate.json" --own "$out"/own-?.jsonl "${table[@]}" || status=$?
[ $failed -eq 0 ] || status=1
if [ $emulated = yes ] && [ $status -eq 3 ] && [ -s "$out/tests.json" ]; then
  say "the script works; an emulator certifies nothing"
  exit 0
fi
case $status in
  0) say "certified: $out/certificate.json" ;;
  3) say "incomplete: not all was run; $out/certificate.json" ;;
  *) say "NOT certified"; status=1 ;;
esac
exit $status
