#!/usr/bin/env bash
# bench_groups.sh [--members N] [--seconds N] [--groups N] [--offsets N] [--against kafka]
#
# Consumer groups as clients see them: how long N members that join one group at once take until each has its partition
# (classic protocol, and KIP-848), commits a second from 100 groups, and how long a node that is killed and started again takes
# until it tells of GROUPS x OFFSETS committed offsets. Apache Kafka beside it where there is Java and $KAFKA_JARS (or Maven).
# The client is franz-go (kafka/bench/groups); needs Go and kcat.
. "$(dirname "$0")/lib.sh"
MEMBERS=200 SECONDS_EACH=10 GROUPS_=1000 OFFSETS=1000 AGAINST=kafka
while (($#)); do
    [[ $# -ge 2 ]] || fail "$1 needs a value"
    case $1 in
        --members) MEMBERS=$2 ;;
        --seconds) SECONDS_EACH=$2 ;;
        --groups) GROUPS_=$2 ;;
        --offsets) OFFSETS=$2 ;;
        --against) AGAINST=$2 ;;
        *) fail "unknown option $1" ;;
    esac
    shift 2
done
BENCH=$ROOT/kafka/bench
TOOLS=${RAFKA_BENCH_TOOLS:-${CARGO_TARGET_DIR:-$ROOT/target}/bench-tools}
mkdir -p "$TOOLS"
for tool in go kcat python3; do command -v $tool >/dev/null || fail "$tool is missing"; done
find_binaries
go build -C "$BENCH/groups" -o "$TOOLS/groups" .
export KAFKA_JARS=${KAFKA_JARS:-$TOOLS/kafka-jars}
start_work

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
answers() { kcat -b "127.0.0.1:$1" -L -m 2 >/dev/null 2>&1; }
skip() { printf '\033[33mSKIPPED: %s\033[0m\n' "$*" >&2; }
# measure SERVER COMMAND...: one figure, told with the server's name.
measure() {
    local server=$1 at
    shift
    at=$(cat "$WORK/$server.at")
    "$TOOLS/groups" "$1" -bootstrap "$at" "${@:2}" | sed "s/^/$server\t/" | tee -a "$WORK/figures" || skip "$server: $*"
}
everything() {
    measure "$1" join -protocol classic -members "$MEMBERS"
    measure "$1" join -protocol consumer -members "$MEMBERS"
    measure "$1" commit -groups 100 -seconds "$SECONDS_EACH"
    measure "$1" commit -groups 100 -flight 8 -seconds "$SECONDS_EACH"
    measure "$1" fill -groups "$GROUPS_" -partitions "$OFFSETS" -name offsets
}

say "Rafka: $MEMBERS members, then commits (load average $(cut -d' ' -f1-3 /proc/loadavg))"
start_node rafka --init
field "$WORK/rafka.json" kafka >"$WORK/rafka.at"
everything rafka
kill_node rafka
KAFKA_LISTEN=$(cat "$WORK/rafka.at") launch_node rafka
measure rafka loaded -groups "$GROUPS_" -partitions "$OFFSETS" -name offsets
stop_node rafka

if [[ ,$AGAINST, != *,kafka,* ]]; then
    exit 0
elif ! command -v java >/dev/null || { [[ ! -d $KAFKA_JARS ]] && ! command -v mvn >/dev/null; }; then
    skip "Apache Kafka: there is no java, or no jars of it"
    exit 0
fi
say "Apache Kafka: the same"
AT=$(port)
echo "127.0.0.1:$AT" >"$WORK/kafka.at"
start_kafka() {
    GROUP_DELAY_MS=3000 "$BENCH/kafka.sh" 1 "$WORK/kafka" "$AT" >>"$WORK/kafka.log" 2>&1 &
    KAFKA=$!
    NODES+=("$KAFKA")
}
start_kafka
await 120 "Apache Kafka" answers "$AT"
everything kafka
pkill -KILL -P "$KAFKA" java
wait "$KAFKA" || true
start_kafka
measure kafka loaded -groups "$GROUPS_" -partitions "$OFFSETS" -name offsets

say "All figures"
column -t -s $'\t' "$WORK/figures"
