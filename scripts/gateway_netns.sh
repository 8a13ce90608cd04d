#!/usr/bin/env bash
# A client that reaches one node of five: scripts/gateway_netns.sh COMMAND [ARGUMENT...]
#
# Makes a network namespace for each of five nodes and one for the client. The nodes share a network; the client has a
# wire of its own to the first node and no route to anywhere else. The listener at its end routes through the mesh. Runs
# COMMAND in the client's namespace with $BOOTSTRAP, the only Kafka address that it reaches, and $CUT_OFF, the Kafka
# addresses of the others, which it does not reach. Ends as COMMAND does; with 77 where namespaces are not allowed.
#
#   RAFKA_GATEWAY_ROLE=gateway   the first node owns no partitions (default: broker)
#   RAFKA_BIN_DIR                folder of rafka-node (default: target/release)
#
# Examples:
#   scripts/gateway_netns.sh sh -c 'kcat -b $BOOTSTRAP -L'
#   scripts/gateway_netns.sh sh -c 'echo "{\"op\":\"topics\",\"bootstrap\":\"$BOOTSTRAP\"}" | python kafka/compat/python/confluent.py'
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BIN=$(cd "$ROOT" && cd "${RAFKA_BIN_DIR:-target/release}" && pwd)
ROLE=${RAFKA_GATEWAY_ROLE:-broker}
[[ $# -gt 0 ]] || { sed -n '2,/^set/p' "$0" | grep '^#' | cut -c3- >&2; exit 2; }
[[ -x $BIN/rafka-node ]] || { echo "no rafka-node in $BIN" >&2; exit 2; }

ID=rafka-$$
WORK=$(mktemp -d "${TMPDIR:-/tmp}/rafka.XXXXXX")
PIDS=()
clean_up() {
    local code=$?
    trap - EXIT
    for pid in "${PIDS[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    for name in net client 1 2 3 4 5; do ip netns delete "$ID-$name" 2>/dev/null || true; done
    if [[ $code -ne 0 && $code -ne 77 ]]; then tail -n 15 "$WORK"/*.log >&2 2>/dev/null || true; fi
    rm -rf "$WORK"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# plug NAMESPACE ADDRESS: onto the network of the nodes.
plug() {
    ip netns add "$ID-$1"
    ip -n "$ID-$1" link set lo up
    ip -n "$ID-$1" link add eth0 type veth peer name "port$1" netns "$ID-net"
    ip -n "$ID-$1" address add "$2" dev eth0
    ip -n "$ID-$1" link set eth0 up
    ip -n "$ID-net" link set "port$1" master bridge0 up
}

make_network() {
    ip netns add "$ID-net" && ip -n "$ID-net" link add bridge0 type bridge && ip -n "$ID-net" link set bridge0 up || return
    for n in 1 2 3 4 5; do plug "$n" "10.77.0.$n/24" || return; done
    ip netns add "$ID-client" && ip -n "$ID-client" link set lo up || return
    ip -n "$ID-client" link add eth0 type veth peer name client netns "$ID-1" || return
    ip -n "$ID-client" address add 10.78.0.2/30 dev eth0 && ip -n "$ID-client" link set eth0 up || return
    ip -n "$ID-1" address add 10.78.0.1/30 dev client && ip -n "$ID-1" link set client up
}
make_network 2>"$WORK/network" || { echo "network namespaces are not allowed here: $(cat "$WORK/network")" >&2; exit 77; }

# launch N FLAGS...
launch() {
    local n=$1
    shift
    # No function in between: what is killed later must be the node itself.
    ip netns exec "$ID-$n" "$BIN/rafka-node" --data-dir "$WORK/$n" --listen "10.77.0.$n:7300" --lane-listen "10.77.0.$n:7400" \
        --ops-listen "127.0.0.1:9644" --ready-file "$WORK/$n.json" --insecure --log-format compact "$@" \
        >"$WORK/$n.log" 2>&1 &
    PIDS+=($!)
}

await_ready() {
    local deadline=$((SECONDS + 60))
    until [[ -s $WORK/$1.json ]]; do
        ((SECONDS < deadline)) || { echo "node $1 is not ready in time" >&2; exit 1; }
        sleep 0.05
    done
}

# The second node founds the cluster: the first may be one that owns nothing.
launch 2 --kafka-listen 10.77.0.2:9092
await_ready 2
for n in 3 4 5; do launch "$n" --kafka-listen "10.77.0.$n:9092" --bootstrap 10.77.0.2:7300; done
launch 1 --roles "$ROLE" --kafka-listen far=10.78.0.1:9092 --kafka-routing far=mesh --bootstrap 10.77.0.2:7300
for n in 1 3 4 5; do await_ready "$n"; done

BOOTSTRAP=10.78.0.1:9092 CUT_OFF="10.77.0.2:9092 10.77.0.3:9092 10.77.0.4:9092 10.77.0.5:9092" \
    ip netns exec "$ID-client" "$@"
