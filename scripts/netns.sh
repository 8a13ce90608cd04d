#!/usr/bin/env bash
# Network namespaces in which clients reach one node only: scripts/netns.sh ID NODES GATEWAY
#
# Makes a namespace for each node (ID-1, ID-2, ...) and one for the clients (ID-client). The nodes share a network, in
# which node N is 10.77.0.N. The clients are 10.78.0.2, with a wire of their own to node GATEWAY, there 10.78.0.1, and no
# route to anywhere else. Says "ready", and keeps it all until its input ends: also when whoever has started it is killed.
# Then what runs in the namespaces is killed, and they are removed. Ends with 77, and says why, where this is not allowed.
#
# Sourced, it only gives make_network and remove_network.

# plug ID NODE: onto the network of the nodes.
plug() {
    ip netns add "$1-$2" &&
        ip -n "$1-$2" link set lo up &&
        ip -n "$1-$2" link add eth0 type veth peer name "port$2" netns "$1-net" &&
        ip -n "$1-$2" address add "10.77.0.$2/24" dev eth0 &&
        ip -n "$1-$2" link set eth0 up &&
        ip -n "$1-net" link set "port$2" master bridge0 up
}

# make_network ID NODES GATEWAY
make_network() {
    local n
    ip netns add "$1-net" && ip -n "$1-net" link add bridge0 type bridge && ip -n "$1-net" link set bridge0 up || return
    for ((n = 1; n <= $2; n++)); do plug "$1" "$n" || return; done
    ip netns add "$1-client" && ip -n "$1-client" link set lo up || return
    ip -n "$1-client" link add eth0 type veth peer name client netns "$1-$3" || return
    ip -n "$1-client" address add 10.78.0.2/30 dev eth0 && ip -n "$1-client" link set eth0 up || return
    ip -n "$1-$3" address add 10.78.0.1/30 dev client && ip -n "$1-$3" link set client up
}

# remove_network ID NODES: kills what runs there; what is not there is no matter.
remove_network() {
    local name pids n
    local -a names=("$1-client" "$1-net")
    for ((n = 1; n <= $2; n++)); do names+=("$1-$n"); done
    for name in "${names[@]}"; do
        for ((n = 0; n < 100; n++)); do
            mapfile -t pids < <(ip netns pids "$name" 2>/dev/null)
            [[ ${#pids[@]} -gt 0 ]] || break
            kill -KILL "${pids[@]}" 2>/dev/null || true
            sleep 0.02
        done
        ip netns delete "$name" 2>/dev/null || true
    done
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    set -uo pipefail
    [[ $# -eq 3 ]] || { sed -n '2,/^$/p' "$0" | cut -c3- >&2; exit 2; }
    # Whoever asks for an end by the keyboard has the input end, too: nothing may stay because this ended first.
    trap '' HUP INT TERM PIPE
    if ! refusal=$(make_network "$@" 2>&1); then
        remove_network "$1" "$2"
        echo "network namespaces are not allowed here: $refusal"
        exit 77
    fi
    echo ready
    cat >/dev/null
    remove_network "$1" "$2"
fi
