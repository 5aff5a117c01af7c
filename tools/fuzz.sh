#!/usr/bin/env bash
# Fuzzes each target of fuzz/ with libFuzzer: `tools/fuzz.sh [SECONDS] [TARGET]…`.
#
# Finds go to fuzz/artifacts/TARGET and end the run: put the bytes into fuzz/corpus/TARGET, where
# `make test` replays them, and mend the whole kind. What is learnt on the way is kept in the target
# directory, not in the corpus. Builds on stable Rust: the gateway has no unsafe code, so coverage is
# asked for and no sanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
tools/wasm-target.sh
tools/require.sh gcc g++
tools/cargo-tool.sh cargo-fuzz 0.13.2
# The gateway's own versions; libFuzzer is added to them.
cp Cargo.lock fuzz/Cargo.lock
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
# All at once, so that no change of a source in the meantime is built in between.
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo fuzz build -s none --target-dir "$folder"
for target in "${targets[@]}"; do
    mkdir -p "$folder/learnt/$target" "fuzz/artifacts/$target"
    echo "== $target, $seconds s"
    log=$folder/$target.log
    # With a second folder, libFuzzer reads both and writes to the first.
    if ! "$folder/$triple/release/$target" -artifact_prefix="fuzz/artifacts/$target/" \
        -max_total_time="$seconds" -max_len=4096 -timeout=30 -rss_limit_mb=3000 -print_final_stats=1 \
        -close_fd_mask=1 "$folder/learnt/$target" "fuzz/corpus/$target" >"$log" 2>&1; then
        tail -40 "$log"
        echo "witgate: $target found something; see fuzz/artifacts/$target and $log" >&2
        exit 1
    fi
    grep -E 'number_of_executed_units|average_exec_per_sec' "$log"
done
echo "make fuzz: nothing found"
