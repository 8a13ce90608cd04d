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
# shellcheck source=scripts/netns.sh
source "$ROOT/scripts/netns.sh"
[[ -x $BIN/rafka-node ]] || { echo "no rafka-node in $BIN" >&2; exit 2; }

ID=rafka-$$
WORK=$(mktemp -d "${TMPDIR:-/tmp}/rafka.XXXXXX")
PIDS=()
clean_up() {
    local code=$?
    trap - EXIT
    for pid in "${PIDS[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    for pid in "${PIDS[@]}"; do wait "$pid" 2>/dev/null || true; done
    remove_network "$ID" 5
    if [[ $code -ne 0 && $code -ne 77 ]]; then tail -n 15 "$WORK"/*.log >&2 2>/dev/null || true; fi
    rm -rf "$WORK"
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

make_network "$ID" 5 1 2>"$WORK/network" || { echo "network namespaces are not allowed here: $(cat "$WORK/network")" >&2; exit 77; }

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
