# shellcheck shell=bash
# What the scripts share. Source it; it sets -euo pipefail, finds the binaries and cleans up.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
HOST_TRIPLE() { rustc -vV | sed -n 's/^host: //p'; }

# Folder of the binaries: $RAFKA_BIN_DIR, else target/release, built if need be.
find_binaries() {
    BIN=${RAFKA_BIN_DIR:-}
    if [[ -z $BIN ]]; then
        BIN=$ROOT/target/release
        [[ -x $BIN/rafka && -x $BIN/rafka-node ]] ||
            (cd "$ROOT" && cargo build --release --bin rafka --bin rafka-node)
    fi
    BIN=$(cd "$ROOT" && cd "$BIN" && pwd)
    [[ -x $BIN/rafka && -x $BIN/rafka-node ]] || fail "no rafka and rafka-node in $BIN"
}

# A folder for this run, gone with it, and with every node that was started by it.
NODES=()
WORK=
start_work() {
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/rafka.XXXXXX")
    # What the user has configured stays out of it.
    export HOME=$WORK XDG_CONFIG_HOME=$WORK/config XDG_STATE_HOME=$WORK/state XDG_DATA_HOME=$WORK/share
    unset "${!RAFKA_@}" || true
    cd "$WORK"
    trap clean_up EXIT
    trap 'exit 130' INT TERM
}

clean_up() {
    local code=$?
    local node
    for node in "${NODES[@]}"; do kill "$node" 2>/dev/null || true; done
    for node in "${NODES[@]}"; do wait "$node" 2>/dev/null || true; done
    if [[ $code -ne 0 && -d $WORK ]]; then
        echo "--- the nodes' last words" >&2
        tail -n 15 "$WORK"/*.log >&2 2>/dev/null || true
    fi
    cd /
    [[ -z $WORK ]] || rm -rf "$WORK" || true
    exit "$code"
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }

# Shows a command, runs it.
run() {
    printf '\033[36m$ %s\033[0m\n' "${*/#$BIN\//}" >&2
    "$@"
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < deadline)) || fail "$what did not happen in time"
        sleep 0.05
    done
}

# A field of the JSON object in a file, as text. Fields are simple: strings, numbers, or the first string of a list.
field() { sed -n "s/.*\"$2\":[[]\{0,1\}\"\{0,1\}\([^\",}]*\).*/\1/p" "$1"; }

# start_node NAME FLAGS...: a node with a data directory of its own on free ports; waits until it is ready.
# Sets PID_<NAME>; its ready file is $WORK/NAME.json.
start_node() {
    local name=$1
    shift
    launch_node "$name" "$@"
    await_node "$name"
}

launch_node() {
    local name=$1
    shift
    rm -f "$WORK/$name.json"
    "$BIN/rafka-node" --data-dir "$WORK/$name" --listen "${LISTEN:-127.0.0.1:0}" --kafka-listen "${KAFKA_LISTEN:-127.0.0.1:0}" --ops-listen 127.0.0.1:0 \
        --ready-file "$WORK/$name.json" --log-format compact "$@" >>"$WORK/$name.log" 2>&1 &
    printf -v "PID_$name" %s $!
    NODES+=($!)
}

await_node() {
    local name=$1 pid
    pid=PID_$name
    node_is_ready() {
        kill -0 "${!pid}" 2>/dev/null || fail "node $name ended"
        [[ -s $WORK/$name.json ]]
    }
    await 30 "node $name being ready" node_is_ready
}

# The mesh address of a node, for --bootstrap and --listen.
address() { field "$WORK/$1.json" mesh; }

# Mesh address of a node without its peer id, so that a restart can listen on it.
listen_address() { address "$1" | sed 's#/p2p/.*##'; }

stop_node() { signal_node "$1" TERM; }
kill_node() { signal_node "$1" KILL; }

signal_node() {
    local pid=PID_$1
    kill "-$2" "${!pid}"
    wait "${!pid}" 2>/dev/null || true
}
