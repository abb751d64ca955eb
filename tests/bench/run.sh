#!/usr/bin/env bash
# run.sh [PEERS [option of compare.py ...]]: speed beside transformers and torch, or, with --peer llama, beside llama.cpp;
# see README.md. PEERS, by default build/peers, is the folder of a private Python environment, made when it is missing, as are
# the models in it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
peers=$(realpath -m "${1:-$root/build/peers}")
build=${FST_BUILD:-$root/build}
shift $(($# > 0))

# torch's own CUDA libraries are large and only the toolkit's are needed to load it; nothing runs on a GPU.
if [[ ! -e $peers/installed ]]; then
  python3 -m venv "$peers"
  "$peers/bin/pip" install --quiet --no-deps torch==2.11.0 nvidia-cusparselt-cu13 nvidia-nvshmem-cu13 nvidia-cufile
  "$peers/bin/pip" install --quiet numpy sympy networkx jinja2 fsspec filelock typing_extensions safetensors \
    transformers tokenizers
  touch "$peers/installed"
fi
if [[ " $* " == *" --peer llama "* && ! -e $peers/installed-llama ]]; then # built here, for this CPU
  CMAKE_ARGS="-DGGML_NATIVE=ON" "$peers/bin/pip" install --quiet llama-cpp-python gguf
  touch "$peers/installed-llama"
fi
export CUDA_VISIBLE_DEVICES="" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if [[ -d ${CUDA_HOME:-/usr/local/cuda}/lib64 ]]; then
  export LD_LIBRARY_PATH=${CUDA_HOME:-/usr/local/cuda}/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
unset OMP_NUM_THREADS # the peer sets its threads itself

model() { # FOLDER CONFIG
  [[ -e $1/model.safetensors ]] || "$peers/bin/python" "$root/tests/bench/random_model.py" "$2" "$1"
}
model "$peers/tiny" "$root/input/tiny/config.json"
model "$peers/qwen3_0.6b" "$root/tests/bench/qwen3_0.6b.json"

cmake -S "$root" -B "$build" -G Ninja >/dev/null
cmake --build "$build" --target model_bench
"$peers/bin/python" "$root/tests/bench/compare.py" --bench "$build/tests/model_bench" --tiny "$peers/tiny" \
  --large "$peers/qwen3_0.6b" --json "$peers/speed.json" "$@"
