#!/usr/bin/env bash
# install.sh [PACKAGE ...]: installs the Debian packages that are missing, and those named; does nothing where
# all are there.
set -euo pipefail
packages=(
  g++ cmake ninja-build pkg-config ccache
  openmpi-bin libopenmpi-dev libhdf5-openmpi-dev hdf5-tools
  libboost-program-options-dev nlohmann-json3-dev libpcre2-dev libutf8proc-dev libssl-dev
  libgtest-dev libboost-context-dev
  python3-numpy python3-h5py python3-matplotlib
  "$@"
)
if ! command -v dpkg-query >/dev/null; then
  echo "install.sh: not a Debian system; install the equivalents of: ${packages[*]}" >&2
  exit 1
fi
missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

if [[ $(id -u) == 0 ]]; then
  as_root=(env)
elif command -v sudo >/dev/null; then
  as_root=(sudo env)
else
  echo "install.sh: neither root nor sudo; ask an administrator to install: ${missing[*]}" >&2
  exit 1
fi
echo "install.sh: installing ${missing[*]}"
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get update -qq
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
