#!/usr/bin/env bash
# Published clients, scanners and servers against the gateway: `tools/conformance.sh [CHECK]…`.
#
# Installs what it needs: with apt, and with pip and cargo below the target directory. WITGATE names
# another binary than the one that is built here.
set -euo pipefail
cd "$(dirname "$0")/.."

# Debian keeps servers where only root looks.
export PATH="$PATH:/usr/sbin"
tools/require.sh gcc curl openssl node h2load haproxy nginx apache2 slowhttptest python3
# Debian's Python comes without what makes environments.
python3 -c 'import ensurepip, venv' 2>/dev/null || tools/require.sh python3-venv
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
venv=$target/conformance/python
wanted=$(sha256sum <tests/conformance/requirements.txt)
if [ "$(cat "$venv/wanted" 2>/dev/null)" != "$wanted" ]; then
    echo "witgate: installing gRPC, WebSocket and others with pip"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/conformance/requirements.txt
    echo "$wanted" >"$venv/wanted"
fi
version=0.2.5
httpwg=$target/conformance/httpwg-cli-$version/bin/httpwg
if [ ! -x "$httpwg" ]; then
    echo "witgate: installing httpwg-cli with cargo"
    cargo install --locked --quiet --root "$target/conformance/httpwg-cli-$version" \
        --target-dir "$target/conformance/build" --version "$version" httpwg-cli
    rm -rf "$target/conformance/build"
fi
if [ -z "${WITGATE:-}" ]; then
    tools/wasm-target.sh
    cargo build --locked -p witgate
fi
"$venv/bin/python" tests/conformance/run.py --httpwg "$httpwg" \
    "${WITGATE:-$target/debug/witgate}" "$@"
