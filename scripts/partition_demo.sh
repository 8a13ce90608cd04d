#!/usr/bin/env bash
# Partitions: what spreads over nodes, what stays in order, and what a lost node costs.
. "$(dirname "$0")/lib.sh"
find_binaries
start_work
KEYS=5 EACH=200

say "Three nodes, and a topic of twelve partitions: the controller spreads them by weighted rendezvous hashing."
start_node one
start_node two --bootstrap "$(address one)"
start_node three --bootstrap "$(address two)"
RAFKA_BOOTSTRAP=$(address three)
export RAFKA_BOOTSTRAP
run "$BIN/rafka" topic create orders -p 12
run "$BIN/rafka" cluster partitions
LEADERS=$("$BIN/rafka" cluster partitions -o json | sed -n 's/.*"leader":\([0-9]*\).*/\1/p' | sort -u | wc -l)
[[ $LEADERS -eq 3 ]] || fail "the partitions are on $LEADERS of 3 nodes"

say "Records of one key go to one partition: murmur2(key) % 12, as Kafka's clients do. So they stay in order."
for n in $(seq $EACH); do for key in $(seq $KEYS); do echo "customer-$key:$n"; done; done >"$WORK/sent"
run "$BIN/rafka" publish orders --file "$WORK/sent" --key-separator : --quiet
run timeout 60 "$BIN/rafka" subscribe orders --from-beginning -n $((KEYS * EACH)) -f '%p %k %v\n' >"$WORK/read"
for key in $(seq $KEYS); do
    awk -v key="customer-$key" '$2 == key' "$WORK/read" >"$WORK/one-key"
    [[ $(cut -d' ' -f1 "$WORK/one-key" | sort -u | wc -l) -eq 1 ]] || fail "customer-$key is in several partitions"
    cut -d' ' -f3 "$WORK/one-key" | cmp - <(seq $EACH) || fail "customer-$key is out of order"
    echo "  customer-$key: partition $(head -1 "$WORK/one-key" | cut -d' ' -f1), $EACH records in order"
done

say "A partition that is named is taken as it is."
run "$BIN/rafka" publish orders 'to the fifth' -p 5
run timeout 30 "$BIN/rafka" subscribe orders -p 5 --offset -1 -n 1 -f '%v\n' | tee "$WORK/fifth"
[[ $(cat "$WORK/fifth") == 'to the fifth' ]] || fail "partition 5 has another last record"

say "Kill node two (SIGKILL). Partitions have one replica today: its own are away until it is back, the others serve on."
kill_node two
unhealthy() { ! "$BIN/rafka" cluster health >"$WORK/health" 2>&1; }
await 30 "the cluster noticing it" unhealthy
cat "$WORK/health"

say "It comes back with what it had: the log is recovered, the controller elects it again."
start_node two --bootstrap "$(address one)"
healthy() { "$BIN/rafka" cluster health >"$WORK/health" 2>&1; }
await 30 "the cluster being healthy" healthy
cat "$WORK/health"
run timeout 60 "$BIN/rafka" subscribe orders --from-beginning --exit-at-end -f '%v\n' >"$WORK/again"
[[ $(wc -l <"$WORK/again") -eq $((KEYS * EACH + 1)) ]] || fail "$(wc -l <"$WORK/again") records are left"
say "Done: all $((KEYS * EACH + 1)) records are there."
