#!/usr/bin/env bash
# Builds one policy of the workspace into a component: `tools/build-guest.sh PACKAGE OUT.wasm`.
# By the toolchain that tools/wasm-target.sh found: rustup's, or Debian's where that has to do.
set -euo pipefail

package=$1 out=$2
cd "$(dirname "$0")/.."
wasm=wasm32-unknown-unknown
cargo=cargo linker=wasm-component-ld flags=()
# WITGATE_WASM_RUSTC and the like; absent where rustup has the target.
[ -f tools/wasm-target.env ] && . tools/wasm-target.env
if [ -n "${WITGATE_WASM_SYSROOT:-}" ]; then
    cargo=$WITGATE_WASM_CARGO linker=$WITGATE_WASM_LINKER
    export RUSTC=$WITGATE_WASM_RUSTC
    flags=("--sysroot=$WITGATE_WASM_SYSROOT" -Clink-arg=--wasm-ld-path "-Clink-arg=$WITGATE_WASM_LD")
fi
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="${flags[*]}"
target="${CARGO_TARGET_DIR:-target}/guests"
"$cargo" build --quiet --locked --lib --profile guest --target "$wasm" --target-dir "$target" -p "$package"
mkdir -p "$(dirname "$out")"
# By a rename, so that a running gateway never sees half of it.
cp "$target/$wasm/guest/${package//-/_}.wasm" "$out.new"
mv "$out.new" "$out"
