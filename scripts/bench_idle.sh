#!/usr/bin/env bash
# bench_idle.sh [CONNECTIONS] [PARTITIONS]: what nodes cost that nobody asks anything. Three nodes with a topic of PARTITIONS
# (1000): CPU of all together over 20 seconds, and memory. A node with CONNECTIONS (10000) idle Kafka clients: its memory.
. "$(dirname "$0")/lib.sh"
CONNECTIONS=${1:-10000} PARTITIONS=${2:-1000}
find_binaries
start_work
ulimit -n "$(ulimit -Hn)"
resident() { awk '/VmRSS/ { printf "%.0f MiB", $2 / 1024 }' "/proc/$1/status"; }

say "Three nodes, a topic of $PARTITIONS partitions"
printf 'topic:\n  num_partitions: %s\n' "$PARTITIONS" >"$WORK/parts.yaml"
start_node two --init --config "$WORK/parts.yaml"
start_node three --bootstrap "$(address two)" --config "$WORK/parts.yaml"
start_node four --bootstrap "$(address two)" --config "$WORK/parts.yaml"
made() { [[ $(kcat -b "$(field "$WORK/two.json" kafka)" -L -t idle | grep -c 'partition .*leader [1-9]') -eq $PARTITIONS ]]; }
await 30 "a topic of $PARTITIONS partitions" made
sleep 10
ticks() { awk '{ sum += $14 + $15 } END { print sum }' "/proc/$PID_two/stat" "/proc/$PID_three/stat" "/proc/$PID_four/stat"; }
before=$(ticks)
sleep 20
after=$(ticks)
awk -v ticks=$((after - before)) -v hertz="$(getconf CLK_TCK)" \
    'BEGIN { printf "all three together: %.2f %% of a core over 20 s\n", ticks / hertz / 20 * 100 }'
echo "memory: $(resident "$PID_two"), $(resident "$PID_three"), $(resident "$PID_four")"
for name in two three four; do stop_node $name; done

say "A node with $CONNECTIONS idle connections"
cat >"$WORK/many.yaml" <<'Y'
kafka:
  connections_max: 16384
Y
start_node one --init --config "$WORK/many.yaml"
echo "idle, without any: $(resident "$PID_one")"
python3 "$ROOT/kafka/bench/idle_connections.py" "$(field "$WORK/one.json" kafka | sed 's/.*://')" "$PID_one" "$CONNECTIONS"
stop_node one
