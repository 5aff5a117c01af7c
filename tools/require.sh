#!/usr/bin/env bash
# Makes sure that commands are there: `tools/require.sh curl gcc`. What is missing comes from apt.
# Rust itself is never installed behind anybody's back; its absence is an error with the way out.
set -euo pipefail

fail() {
    printf 'witgate: %s\n' "$*" >&2
    exit 1
}

minimum=1.95
command -v cargo >/dev/null ||
    fail "cargo is missing: install Rust with rustup (https://rustup.rs), stable, $minimum or later"
version=$(rustc --version | cut -d ' ' -f 2 | cut -d - -f 1)
[ "$(printf '%s\n%s\n' "$minimum" "$version" | sort -V | head -n 1)" = "$minimum" ] ||
    fail "Rust is $version, witgate needs $minimum or later: run \`rustup update stable\`"

packages=()
for command in "$@"; do
    command -v "$command" >/dev/null && continue
    case $command in
        gcc) packages+=(gcc libc6-dev) ;; # aws-lc and mimalloc are C
        curl) packages+=(curl ca-certificates) ;;
        g++) packages+=(g++) ;; # libFuzzer
        h2load) packages+=(nghttp2-client) ;;
        node) packages+=(nodejs) ;;
        python3) packages+=(python3 python3-venv) ;;
        *) packages+=("$command") ;;
    esac
done
[ ${#packages[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "missing: ${packages[*]}; install them (not root, and no sudo here)"
    sudo=(sudo)
fi
command -v apt-get >/dev/null || fail "missing: ${packages[*]}; install them (no apt here)"
echo "witgate: installing with apt: ${packages[*]}"
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
