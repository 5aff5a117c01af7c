#!/usr/bin/env bash
# Builds the gateway as it is meant to be deployed: twice, the second time by a profile of the first
# at work. Takes three times as long as `make build`. The binary: target/pgo/witgate.
#
# The load is that of benches/peers/run, every case of it, so nothing is tuned for one. Needs two
# cores, nginx, wrk, h2load and llvm-profdata, and installs what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/wasm-target.sh
tools/require.sh gcc python3 h2load
benches/peers/install --tools
triple=$(rustc -vV | sed -n 's/^host: //p')
folder=${CARGO_TARGET_DIR:-$PWD/target}/pgo
flags=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$triple")_RUSTFLAGS

# Of the compiler's own LLVM: rustup has it, else Debian.
major=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
merge=$(rustc --print sysroot)/lib/rustlib/$triple/bin/llvm-profdata
if [ ! -x "$merge" ] && ! command -v "llvm-profdata-$major" >/dev/null; then
    echo "witgate: installing what reads profiles: rustup component add llvm-tools"
    timeout 300 rustup component add llvm-tools || tools/require.sh "llvm-$major"
fi
[ -x "$merge" ] || merge=llvm-profdata-$major

# Only the gateway's own code for this machine is counted: build scripts and guests are not, for the
# target is named.
build() {
    env "$flags=$1" cargo build --release --locked -p witgate --target "$triple" --target-dir "$folder/$2"
    built=$folder/$2/$triple/release/witgate
}

mkdir -p "$folder"
rm -rf "$folder/counts"
echo "== a build that counts"
build "-Cprofile-generate=$folder/counts" counting
echo "== its work"
benches/peers/run --proxies witgate --rounds 1 --seconds 3 --witgate "$built" >/dev/null
"$merge" merge -o "$folder/profile" "$folder/counts"
echo "== the build"
build "-Cprofile-use=$folder/profile" release
cp "$built" "$folder/witgate"
echo "witgate: $folder/witgate"
