#!/usr/bin/env bash
# bench_restart.sh [GIB] [PARTITIONS]: fills a topic of PARTITIONS (1000) with GIB (10) of records of 10 KiB through the Kafka
# door, kills the node in the middle of it (SIGKILL) and starts it again: how long until it is ready, whether each partition
# has its records, every one of them readable. Needs as much free disk; the folder of TMPDIR is used.
. "$(dirname "$0")/lib.sh"
GIB=${1:-10} PARTITIONS=${2:-1000}
BENCH=$ROOT/kafka/bench
TOOLS=${RAFKA_BENCH_TOOLS:-${CARGO_TARGET_DIR:-$ROOT/target}/bench-tools}
mkdir -p "$TOOLS"
find_binaries
CLIENT=$("$BENCH/client.sh" "$TOOLS/client")
start_work
ulimit -n "$(ulimit -Hn)"
RECORDS=$((GIB * 1024 * 1024 / 10))
printf 'topic:\n  num_partitions: %s\n' "$PARTITIONS" >"$WORK/config.yaml"

say "A node, $PARTITIONS partitions, $GIB GiB"
start_node one --init --config "$WORK/config.yaml"
kafka() { field "$WORK/one.json" kafka; }
kcat -b "$(kafka)" -L -t big >/dev/null
sleep 3
# Acknowledged records, and where each partition's log ends.
run "$CLIENT" -P -b "$(kafka)" -t big -s 10240 -c "$RECORDS" -a 1 -q -X linger.ms=20 \
    -X queue.buffering.max.kbytes=1048576 -X topic.metadata.refresh.interval.ms=300000 >"$WORK/fill.log" 2>&1
sed -n 's/.*% \(.*delivered.*\)/  \1/p' "$WORK/fill.log" | tail -1
grep -q "$RECORDS delivered.*, 0 failed" "$WORK/fill.log" || { tail -3 "$WORK/fill.log" >&2; fail "not everything was acknowledged"; }
ends() {
    local queries=() partition
    for ((partition = 0; partition < PARTITIONS; partition++)); do queries+=(-t "big:$partition:-1"); done
    kcat -b "$(kafka)" -Q "${queries[@]}" | sort -V
}
ends >"$WORK/before"

say "SIGKILL while more comes in"
"$CLIENT" -P -b "$(kafka)" -t big -s 10240 -c "$RECORDS" -a 1 -q -X linger.ms=20 -X message.timeout.ms=10000 >/dev/null 2>&1 &
NODES+=($!)
sleep 2
kill_node one
kill $! 2>/dev/null || true
start_node one --config "$WORK/config.yaml"
echo "  ready after $(field "$WORK/one.json" ready_ms) ms; $(du -sm "$WORK/one/logs" | cut -f1) MiB in the logs"
ends >"$WORK/after"
paste -d' ' "$WORK/before" "$WORK/after" | awk '
    { split($0, words, " "); before = words[4] + 0; after = words[8] + 0; if (after < before) short++; had += before; has += after }
    END { printf "  log ends add up to %d before, %d after; partitions that lost records: %d\n", had, has, short + 0; exit short > 0 }' ||
    fail "acknowledged records are missing"
run timeout 600 "$CLIENT" -C -b "$(kafka)" -t big $(seq -f '-p %g' 0 $((PARTITIONS - 1))) -o beginning -c "$RECORDS" -q >"$WORK/read.log" 2>&1 ||
    { tail -3 "$WORK/read.log" >&2; fail "not everything could be read"; }
grep -o '[0-9]* messages .* consumed in [0-9]*ms' "$WORK/read.log" | tail -1 | sed 's/^/  /'
