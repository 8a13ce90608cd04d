#!/usr/bin/env bash
# bench_gateway.sh [--cases a,b] [--rounds N] [--scale X] [--out FILE.json]
#
# A Kafka client at the leader of every partition, and the same client at a gateway beside it (a node that owns nothing), in
# rounds that are interleaved. The client is librdkafka's own rdkafka_performance. Prints a table as bench_kafka.sh does; the
# CPU of "gateway" is the gateway's alone, the leader's comes on top. Needs kcat, python3, a C compiler and make.
. "$(dirname "$0")/lib.sh"
CASES=1KiB,tail,latency,latency-acks-all ROUNDS=3 SCALE=0.3 OUT=$PWD/bench_gateway.json
while (($#)); do
    [[ $# -ge 2 ]] || fail "$1 needs a value"
    case $1 in
        --cases) CASES=$2 ;;
        --rounds) ROUNDS=$2 ;;
        --scale) SCALE=$2 ;;
        --out) OUT=$(realpath "$2") ;;
        *) fail "unknown option $1" ;;
    esac
    shift 2
done
BENCH=$ROOT/kafka/bench
TOOLS=${RAFKA_BENCH_TOOLS:-${CARGO_TARGET_DIR:-$ROOT/target}/bench-tools}
mkdir -p "$TOOLS"
for tool in kcat python3; do command -v $tool >/dev/null || fail "$tool is missing"; done
find_binaries
CLIENT=$("$BENCH/client.sh" "$TOOLS/client")
start_work

start_node direct --init --set topic.num_partitions=12
start_node gateway --roles gateway --bootstrap "$(field "$WORK/direct.json" mesh)" --set topic.num_partitions=12
at() { field "$WORK/$1.json" kafka | sed 's/.*://'; }
say "$ROUNDS rounds (load average $(cut -d' ' -f1-3 /proc/loadavg))"
python3 "$BENCH/side_by_side.py" --client "$CLIENT" --server "direct=$(at direct)=$PID_direct" --server "gateway=$(at gateway)=$PID_gateway" \
    --rounds "$ROUNDS" --scale "$SCALE" --partitions 12 --cases "$CASES" --out "$OUT"
echo "All figures: $OUT"
