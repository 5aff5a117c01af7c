#!/usr/bin/env bash
# Published clients, scanners and servers against the gateway: `tools/conformance.sh [CHECK]…`.
#
# Installs what it needs: with apt, and with pip and cargo below the target directory. WITGATE names
# another binary than the one that is built here.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/wasm-target.sh
tools/require.sh gcc curl openssl node h2load haproxy nginx apache2 slowhttptest python3
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
venv=$target/conformance/python
wanted=$(sha256sum <tests/conformance/requirements.txt)
if [ "$(cat "$venv/wanted" 2>/dev/null)" != "$wanted" ]; then
    echo "witgate: installing gRPC, WebSocket and others with pip"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/conformance/requirements.txt
    echo "$wanted" >"$venv/wanted"
fi
httpwg=$target/conformance/bin/httpwg
if [ ! -x "$httpwg" ]; then
    echo "witgate: installing httpwg-cli with cargo"
    cargo install --locked --quiet --root "$target/conformance" --target-dir "$target/conformance/build" \
        --version 0.2.5 httpwg-cli
    rm -rf "$target/conformance/build"
fi
cargo build --locked -p witgate
"$venv/bin/python" tests/conformance/run.py --httpwg "$httpwg" \
    "${WITGATE:-$target/debug/witgate}" "$@"
