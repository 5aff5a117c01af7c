#!/usr/bin/env bash
# Soaks a gateway: `tools/soak.sh [MINUTES] [SEED]`, two minutes if nothing is said. WITGATE names
# another binary than the one that is built here.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/wasm-target.sh
tools/require.sh gcc
cargo build --locked -p witgate -p witgate-soak
folder=$(realpath "${CARGO_TARGET_DIR:-target}")/debug
exec "$folder/witgate-soak" "${WITGATE:-$folder/witgate}" "${1:-2}" ${2:+"$2"}
