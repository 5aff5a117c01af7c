#!/usr/bin/env bash
# Makes sure that a cargo subcommand is there: `tools/cargo-tool.sh cargo-deny 0.20.2`.
set -euo pipefail

name=$1 version=$2
command -v "$name" >/dev/null && exit 0
"$(dirname "$0")/require.sh" gcc
echo "witgate: installing $name $version with cargo"
cargo install --locked --version "$version" "$name"
