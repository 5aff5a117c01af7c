#!/bin/sh
# Makes Rust able to build for wasm32-unknown-unknown, as policies need it; says what it does.
#
# First by rustup. Where that cannot fetch the target, by Debian's rustc-web: its standard library
# is built for WebAssembly once (half a minute), and tools/wasm-target.env tells
# plugins/bundle/build.rs where all of it is. Run it again at any time.
set -eu

target=wasm32-unknown-unknown
tools=$(cd "$(dirname "$0")" && pwd)
note=$tools/wasm-target.env

say() { printf 'wasm-target: %s\n' "$*" >&2; }
has_target() { [ -d "$1/lib/rustlib/$target/lib" ]; }

if has_target "$(rustc --print sysroot)"; then
    rm -f "$note"
    exit 0
fi
if command -v rustup >/dev/null; then
    say "rustup target add $target"
    if rustup target add "$target"; then
        rm -f "$note"
        exit 0
    fi
    say "rustup cannot fetch it"
fi

if [ -f "$note" ]; then
    sysroot=$(sed -n 's/^WITGATE_WASM_SYSROOT=//p' "$note")
    if has_target "$sysroot"; then
        say "Debian's toolchain is set up in $sysroot"
        exit 0
    fi
fi
if ! command -v apt-get >/dev/null; then
    say "no apt-get here: install the $target target of your Rust by hand"
    exit 1
fi

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if ! dpkg -s rustc-web cargo-web rust-web-src rust-web-llvm >/dev/null 2>&1; then
    say "apt-get install rustc-web cargo-web rust-web-src rust-web-llvm (170 MB)"
    $as_root apt-get update -q
    $as_root apt-get install -qy --no-install-recommends rustc-web cargo-web rust-web-src rust-web-llvm
fi
rustc=$(dpkg -L rustc-web | grep '/bin/rustc$')
usr=$(dirname "$(dirname "$rustc")")
cargo=$usr/bin/cargo
host=$("$rustc" -vV | sed -n 's/^host: //p')

newest_wasm_ld() { ls "$usr"/bin/wasm-ld-* 2>/dev/null | sort -V | tail -1; }
if [ -z "$(newest_wasm_ld)" ]; then
    llvm=$("$rustc" -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
    say "apt-get install lld-$llvm"
    $as_root apt-get install -qy --no-install-recommends "lld-$llvm"
fi

sysroot=${XDG_CACHE_HOME:-$HOME/.cache}/witgate/wasm-sysroot-$("$rustc" -V | cut -d' ' -f2)
if ! has_target "$sysroot"; then
    say "building Rust's standard library for $target in $sysroot"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cp -r "$tools/wasm-sysroot/." "$work"
    env -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER -u RUSTC_WORKSPACE_WRAPPER \
        PATH="$usr/bin:$PATH" RUSTC="$rustc" RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="-Cembed-bitcode=yes --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
        CARGO_TARGET_DIR="$work/target" \
        "$cargo" build --manifest-path "$work/Cargo.toml" --release \
        -Z build-std=std,panic_abort --target "$target"
    mkdir -p "$sysroot/lib/rustlib/$target"
    # Renamed into place when it is whole: an interrupted run leaves nothing that looks finished.
    mkdir "$work/lib"
    cp "$work/target/$target/release/deps/"*.rlib "$work/lib"
    rm -f "$work/lib/"libwasm_sysroot*
    ln -sfn "$usr/lib/rustlib/$host" "$sysroot/lib/rustlib/$host"
    rm -rf "$sysroot/lib/rustlib/$target/lib.new"
    cp -r "$work/lib" "$sysroot/lib/rustlib/$target/lib.new"
    mv "$sysroot/lib/rustlib/$target/lib.new" "$sysroot/lib/rustlib/$target/lib"
fi

cat >"$note" <<END
WITGATE_WASM_RUSTC=$rustc
WITGATE_WASM_CARGO=$cargo
WITGATE_WASM_SYSROOT=$sysroot
WITGATE_WASM_LINKER=$usr/lib/rustlib/$host/bin/wasm-component-ld
WITGATE_WASM_LD=$(newest_wasm_ld)
END
say "wrote $note: guests build with $("$rustc" -V)"
