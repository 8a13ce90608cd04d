#!/usr/bin/env bash
# Hello, world: two nodes, one topic, one record there and back.
. "$(dirname "$0")/lib.sh"
find_binaries
start_work

say "Found a cluster: a node with an empty data directory and nobody to ask founds one."
start_node one
echo "  $(field "$WORK/one.json" cluster_id) is the cluster, $(address one) its first node"

say "A second node needs one address of any node."
start_node two --bootstrap "$(address one)"
export RAFKA_BOOTSTRAP
RAFKA_BOOTSTRAP=$(address two)
run "$BIN/rafka" cluster nodes

say "Any node can be asked; here it is the second. The controller places the topic's partitions over both."
run "$BIN/rafka" topic create greetings -p 2

say "Publish: the client finds the partition's leader in the DHT and sends the record there."
run "$BIN/rafka" publish greetings 'hello, world' -k me

say "Subscribe: read it back, from the beginning, until one record has come."
run timeout 30 "$BIN/rafka" subscribe greetings --from-beginning -n 1 | tee "$WORK/read"
grep -q '"key":"me","value":"hello, world"' "$WORK/read" || fail "the record is not what was published"

say "How was the leader found?"
run "$BIN/rafka" mesh route greetings/0
run "$BIN/rafka" cluster health || fail "the cluster is not healthy"
say "Done: hello, world."
