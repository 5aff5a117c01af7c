#!/usr/bin/env bash
# Runs the very commands that start.sh prints against the running demo, and checks what they say.
# Exits 0 only if all of them give what they promise.
set -uo pipefail

cd "$(dirname "$0")/../.." || exit 1
PORT="${PORT:-8080}" TLS_PORT="${TLS_PORT:-8443}" ADMIN_PORT="${ADMIN_PORT:-9901}"
AIRLINE_STATE="${AIRLINE_STATE:-${CARGO_TARGET_DIR:-target}/airline}"
tools/require.sh curl || exit 1

steps=0 failed=0
step() {
    local title=$1 command=$2 output expected pattern found bad=()
    shift 2
    steps=$((steps + 1))
    output=$(eval "$command" 2>&1 | tr -d '\r')
    for expected in "$@"; do
        pattern=${expected#!}
        found=no
        grep -Eiq -- "$pattern" <<<"$output" && found=yes
        case $expected in
            !*) [ "$found" = no ] || bad+=("there is: $pattern") ;;
            *) [ "$found" = yes ] || bad+=("there is no: $pattern") ;;
        esac
    done
    if [ ${#bad[@]} -eq 0 ]; then
        printf 'ok    %s\n' "$title"
        return
    fi
    failed=$((failed + 1))
    printf 'FAIL  %s\n      %s\n' "$title" "$command"
    printf '      %s\n' "${bad[@]}"
    printf '%s\n' "$output" | head -n 30 | sed 's/^/      | /'
}

. examples/airline/commands.sh
airline_commands
printf '%s of %s commands did what they say\n' "$((steps - failed))" "$steps"
[ "$failed" -eq 0 ]
