#!/usr/bin/env bash
# Starts the airline demo: two services (one of them twice), and the gateway in front. Ends all of
# it on Ctrl-C. Called by `make run`.
#
#   PORT TLS_PORT ADMIN_PORT EMPLOYEES_PORT FLIGHTS_PORT   where they listen, on 127.0.0.1
#   AIRLINE_STATE     folder for what is made on the spot; default: target/airline
#   WITGATE AIRLINE_SERVICES AIRLINE_POLICY   built already: the two programs, the component
set -euo pipefail

cd "$(dirname "$0")/../.."
export PORT="${PORT:-8080}" TLS_PORT="${TLS_PORT:-8443}" ADMIN_PORT="${ADMIN_PORT:-9901}"
export EMPLOYEES_PORT="${EMPLOYEES_PORT:-9001}" FLIGHTS_PORT="${FLIGHTS_PORT:-9002}"
export EMPLOYEES_2_PORT="${EMPLOYEES_2_PORT:-$((EMPLOYEES_PORT + 10))}"
target="${CARGO_TARGET_DIR:-target}"
export AIRLINE_STATE="${AIRLINE_STATE:-$target/airline}"
mkdir -p "$AIRLINE_STATE/plugins"
AIRLINE_STATE=$(cd "$AIRLINE_STATE" && pwd)
shown=${AIRLINE_STATE#"$PWD"/}

tools/require.sh curl gcc
if [ -z "${WITGATE:-}" ] || [ -z "${AIRLINE_SERVICES:-}" ]; then
    tools/wasm-target.sh
    echo "building the gateway and the services (the first time takes some minutes)"
    cargo build --release --locked -p witgate -p airline-services
    WITGATE="$target/release/witgate" AIRLINE_SERVICES="$target/release/airline-services"
fi
if [ -z "${AIRLINE_POLICY:-}" ]; then
    echo "building the policy examples/airline/policy into $shown/plugins/tail-number.wasm"
    tools/build-guest.sh tail-number "$AIRLINE_STATE/plugins/tail-number.wasm"
else
    cp "$AIRLINE_POLICY" "$AIRLINE_STATE/plugins/tail-number.wasm"
fi

echo "making a certificate, signing keys and tokens in $shown"
"$AIRLINE_SERVICES" certificate "$AIRLINE_STATE"
"$AIRLINE_SERVICES" keys "$AIRLINE_STATE"
sign() { "$AIRLINE_SERVICES" token "$AIRLINE_STATE" "$1"; }
sign '{"sub":"anna","role":"captain"}' >"$AIRLINE_STATE/anna.jwt"
sign '{"sub":"anna","role":"captain","exp":1000000000}' >"$AIRLINE_STATE/expired.jwt"
# {"alg":"none"} and anna's claims, with nothing where the signature belongs.
printf 'eyJhbGciOiJub25lIn0.%s.\n' "$(cut -d . -f 2 "$AIRLINE_STATE/anna.jwt")" >"$AIRLINE_STATE/unsigned.jwt"

running=()
end() {
    trap - EXIT INT TERM
    # The gateway first, so that it drains while its upstreams are still there.
    for ((at = ${#running[@]} - 1; at >= 0; at--)); do
        kill -TERM "${running[at]}" 2>/dev/null || true
        wait "${running[at]}" 2>/dev/null || true
    done
}
trap end EXIT
trap 'end; echo; echo "the demo has ended"; exit 0' INT TERM

# start LOG COMMAND...: in the background; fails with the log when `ready` does not come.
start() {
    local log=$1
    shift
    : >"$log"
    "$@" >"$log" 2>&1 &
    running+=($!)
    for ((tenths = 0; tenths < 600; tenths++)); do
        grep -q ' ready: ' "$log" && return
        if ! kill -0 "${running[-1]}" 2>/dev/null; then
            echo "this did not start: $*" >&2
            cat "$log" >&2
            exit 1
        fi
        sleep 0.1
    done
    echo "this is not ready after a minute: $*" >&2
    cat "$log" >&2
    exit 1
}

start "$AIRLINE_STATE/employees.log" "$AIRLINE_SERVICES" serve employees "127.0.0.1:$EMPLOYEES_PORT"
start "$AIRLINE_STATE/employees-2.log" "$AIRLINE_SERVICES" serve employees "127.0.0.1:$EMPLOYEES_2_PORT" employees-2
start "$AIRLINE_STATE/flights.log" "$AIRLINE_SERVICES" serve flights "127.0.0.1:$FLIGHTS_PORT"
start "$AIRLINE_STATE/gateway.log" "$WITGATE" run -c examples/airline/witgate.yaml
grep -o 'witgate ready: .*' "$AIRLINE_STATE/gateway.log"

printf '\nTry these in another terminal, in this folder:\n'
step() {
    local title=$1 command=$2 expected
    shift 2
    printf '\n# %s\n' "$title"
    for expected in "$@"; do
        case $expected in
            !*) printf '#   not: %s\n' "${expected#!}" ;;
            *) printf '#   says: %s\n' "$expected" ;;
        esac
    done
    printf '%s\n' "$command"
}
(
    AIRLINE_STATE=$shown
    . examples/airline/commands.sh
    airline_commands
)
cat <<END

All of them at once, with their answers checked: examples/airline/try.sh
The access log: $shown/access.log    the gateway's own: $shown/gateway.log
Change examples/airline/witgate.yaml or put another .wasm into $shown/plugins: it takes effect live.
Ctrl-C ends the demo.
END

# Whoever of them ends first, ends the demo.
wait -n "${running[@]}" || true
echo "one of the demo's processes has ended; see the logs in $shown" >&2
exit 1
