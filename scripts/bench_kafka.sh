#!/usr/bin/env bash
# bench_kafka.sh [--cases a,b] [--rounds N] [--scale X] [--partitions N] [--against floor,kafka] [--config FILE] [--out FILE.json]
#
# The Kafka door against two yardsticks, in rounds that are interleaved: the floor (kafka/bench/floor: the smallest server that
# a Kafka client can use) and Apache Kafka. The client is librdkafka's own rdkafka_performance. Prints a table, writes JSON.
# What can be trusted on a busy machine is the server's CPU for each record, and ratios within one run; see docs/benchmarks.md.
# A yardstick that cannot be had (Kafka needs Java and Maven) is skipped, loudly. Needs kcat, python3, a C compiler and make.
. "$(dirname "$0")/lib.sh"
CASES=() ROUNDS=3 SCALE=1 PARTITIONS=12 AGAINST=floor,kafka CONFIG= OUT=$PWD/bench_kafka.json
while (($#)); do
    [[ $# -ge 2 ]] || fail "$1 needs a value"
    case $1 in
        --cases) CASES=(--cases "$2") ;;
        --rounds) ROUNDS=$2 ;;
        --scale) SCALE=$2 ;;
        --partitions) PARTITIONS=$2 ;;
        --against) AGAINST=$2 ;;
        --config) CONFIG=$(realpath "$2") ;;
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

say "The client: librdkafka's rdkafka_performance"
CLIENT=$("$BENCH/client.sh" "$TOOLS/client")
echo "$CLIENT"

wants() { [[ ,$AGAINST, == *,$1,* ]]; }
skip() { printf '\033[33mSKIPPED: %s\033[0m\n' "$*" >&2; }
if wants floor; then
    CARGO_TARGET_DIR=$TOOLS/floor cargo build --quiet --release --locked --manifest-path "$BENCH/floor/Cargo.toml"
fi
export KAFKA_JARS=${KAFKA_JARS:-$TOOLS/kafka-jars} PARTITIONS
start_work

say "Servers, each alone on $PARTITIONS partitions a topic"
# Ports that nobody listens on now; the yardsticks cannot be asked to choose.
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
answers() { kcat -b "127.0.0.1:$1" -L -m 2 >/dev/null 2>&1; }
SERVERS=()
if [[ -z $CONFIG ]]; then
    CONFIG=$WORK/config.yaml
    printf 'topic:\n  num_partitions: %s\n' "$PARTITIONS" >"$CONFIG"
fi
start_node rafka --init --config "$CONFIG"
SERVERS+=(--server "rafka=$(field "$WORK/rafka.json" kafka | sed 's/.*://')=$PID_rafka")
if wants floor; then
    FLOOR=$(port)
    "$TOOLS/floor/release/floor" "$FLOOR" "$WORK/floor" "$PARTITIONS" >"$WORK/floor.log" 2>&1 &
    NODES+=($!)
    SERVERS+=(--server "floor=$FLOOR=$!")
    await 10 "the floor" answers "$FLOOR"
fi
if wants kafka && ! command -v java >/dev/null; then
    skip "Apache Kafka: there is no java"
elif wants kafka && [[ ! -d $KAFKA_JARS ]] && ! command -v mvn >/dev/null; then
    skip "Apache Kafka: there is no mvn to fetch it with"
elif wants kafka; then
    KAFKA=$(port)
    "$BENCH/kafka.sh" 1 "$WORK/kafka" "$KAFKA" >"$WORK/kafka.log" 2>&1 &
    NODES+=($!)
    SERVERS+=(--server "kafka=$KAFKA=$!")
    await 120 "Apache Kafka" answers "$KAFKA"
fi
printf '%s\n' "${SERVERS[@]}" | grep -v -- --server

say "$ROUNDS rounds (load average $(cut -d' ' -f1-3 /proc/loadavg))"
python3 "$BENCH/side_by_side.py" --client "$CLIENT" "${SERVERS[@]}" --rounds "$ROUNDS" --scale "$SCALE" \
    --partitions "$PARTITIONS" --out "$OUT" "${CASES[@]}"
echo "All figures: $OUT"
