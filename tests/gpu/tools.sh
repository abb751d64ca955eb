#!/usr/bin/env bash
# tools.sh FOLDER: cuobjdump and nvdisasm, which the CUDA Toolkit of some systems leaves out, from NVIDIA's Python
# wheels into FOLDER (about 20 MB). Does nothing where there is a cuobjdump or no nvcc.
set -euo pipefail
folder=${1:?usage: tools.sh FOLDER}
export PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || exit 0
if command -v cuobjdump >/dev/null || compgen -G "$folder/nvidia/*/bin/cuobjdump" >/dev/null; then exit 0; fi
release=$(nvcc --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
# The newest of the compiler's generation: it reads what an older one of it wrote.
python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$folder" \
  "nvidia-cuda-cuobjdump==$release.*" "nvidia-cuda-nvdisasm==$release.*"
