#!/usr/bin/env bash
# big_input.sh [SIZE_MB] [--kill]: publishes a generated file to twelve partitions on three nodes, reads it back, and
# compares: the same lines, in order within each key. With --kill each node is killed in turn meanwhile (SIGKILL, the
# founder too) and started again; every acknowledged line must be there, and none twice beyond the retry.
. "$(dirname "$0")/lib.sh"
find_binaries
SIZE=${1:-64} KILL=${2:-}
[[ $SIZE =~ ^[0-9]+$ && $SIZE -ge 8 && ( -z $KILL || $KILL == --kill ) ]] || fail "usage: big_input.sh [SIZE_MB] [--kill]"
XTASK=${RAFKA_XTASK:-}
if [[ -z $XTASK ]]; then
    (cd "$ROOT" && cargo build --release --quiet -p xtask)
    XTASK=${CARGO_TARGET_DIR:-$ROOT/target}/release/xtask
fi
XTASK=$(realpath "$XTASK")
start_work

say "$SIZE MiB of JSON with 1000 keys"
run "$XTASK" data generate --mb "$SIZE" --keys 1000 "$WORK/sent"

say "Three nodes, twelve partitions"
start_node one
start_node two --bootstrap "$(address one)"
start_node three --bootstrap "$(address one)"
RAFKA_BOOTSTRAP=$(address one),$(address two),$(address three)
export RAFKA_BOOTSTRAP
run "$BIN/rafka" topic create big -p 12

say "Publish with acks=all"
publish() {
    "$BIN/rafka" publish big "$@" --key-separator $'\t' --acks all --quiet -o json >"$WORK/published" 2>"$WORK/publish.log"
}
log_kib() { du -sk "$WORK"/{one,two,three}/logs 2>/dev/null | awk '{ kib += $1 } END { print kib + 0 }'; }

# The file in four parts, each held back until it is asked for: a node is killed in the middle of each of the first three,
# however fast the machine is.
feed() {
    local part
    for part in 0 1 2 3; do
        until [[ -e $WORK/part-$part ]]; do sleep 0.02; done
        dd if="$WORK/sent" bs=1M skip=$((part * SIZE / 4)) \
            count=$((part == 3 ? SIZE : (part + 1) * SIZE / 4 - part * SIZE / 4)) status=none
    done
}

if [[ $KILL != --kill ]]; then
    publish --file "$WORK/sent" &
    PUBLISHER=$!
    NODES+=("$PUBLISHER")
else
    mkfifo "$WORK/input"
    publish - <"$WORK/input" &
    PUBLISHER=$!
    feed >"$WORK/input" &
    NODES+=("$PUBLISHER" $!)
    part=0
    for name in three two one; do
        before=$(log_kib)
        touch "$WORK/part-$part"
        reached() { (($(log_kib) >= before + SIZE * 1024 / 16)) || ! kill -0 "$PUBLISHER" 2>/dev/null; }
        await 600 "part $part of the publish" reached
        kill -0 "$PUBLISHER" 2>/dev/null || { cat "$WORK/publish.log" >&2; fail "the publish ended early"; }
        was=$(listen_address "$name")
        peers=()
        for other in one two three; do [[ $other == "$name" ]] || peers+=(--bootstrap "$(address "$other")"); done
        echo "  SIGKILL: node $name, with $(log_kib) KiB in the logs"
        kill_node "$name"
        LISTEN=$was start_node "$name" "${peers[@]}"
        echo "  node $name is back after $(field "$WORK/$name.json" ready_ms) ms, with $(log_kib) KiB in the logs"
        part=$((part + 1))
    done
    touch "$WORK/part-$part"
fi
wait "$PUBLISHER" || { cat "$WORK/publish.log" >&2; fail "not everything was published"; }
cat "$WORK/published"

say "Read back"
START=$SECONDS
run timeout 1200 "$BIN/rafka" subscribe big --from-beginning --exit-at-end -f '%k\t%v\n' >"$WORK/received"
echo "  $(wc -l <"$WORK/received") lines in $((SECONDS - START)) s"

say "Compare"
run "$XTASK" data compare ${KILL:+--allow-duplicates} "$WORK/sent" "$WORK/received"
"$BIN/rafka" cluster health
say "Done: what was published is what was read."
