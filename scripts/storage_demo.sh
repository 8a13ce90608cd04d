#!/usr/bin/env bash
# Storage: what lies on disk, what survives a kill, what retention and trimming take away.
. "$(dirname "$0")/lib.sh"
find_binaries
start_work

say "One node; a topic whose segments are small, so that there are several."
start_node one
RAFKA_BOOTSTRAP=$(address one)
export RAFKA_BOOTSTRAP
run "$BIN/rafka" topic create events -p 1 -c segment.bytes=16384 -c durability=fsync
for i in $(seq 20); do
    # One publish for each batch, so that the segments fill up with batches of their own.
    seq "$((i * 200 - 199))" "$((i * 200))" | sed 's/^/event number /' | "$BIN/rafka" publish events --quiet
done

say "On disk: record batches exactly as the producer made them, with sparse indexes beside them."
FILES=$(find "$WORK/one/logs" -name '0*.log' -size +0 | sort)
[[ -n $FILES ]] || fail "no segment in the data directory"
DIR=$(dirname "$(head -1 <<<"$FILES")")
ls -l "$DIR" | sed 's/^/  /'
[[ $(wc -l <<<"$FILES") -gt 2 ]] || fail "there is one segment only"
run "$BIN/rafka" debug dump-log "$(head -1 <<<"$FILES")" -n 3

say "SIGKILL, no goodbye: durability=fsync answers only when the record is on the disk."
kill_node one
start_node one
RAFKA_BOOTSTRAP=$(address one)
run timeout 60 "$BIN/rafka" subscribe events --from-beginning --exit-at-end -f '%v\n' >"$WORK/read"
cmp "$WORK/read" <(seq 4000 | sed 's/^/event number /') || fail "not every event survived"
echo "  all 4000 events are there, in order"

say "A torn tail: half a batch behind the last one, as a power cut leaves it. Recovery cuts it off."
kill_node one
LAST=$(find "$DIR" -name '0*.log' | sort | tail -1)
END=$("$BIN/rafka" debug dump-log "$LAST" -o json | tail -1 |
    sed 's/.*"position":\([0-9]*\),"bytes":\([0-9]*\).*/\1 + \2/')
head -c 30 "$(head -1 <<<"$FILES")" | dd of="$LAST" bs=1 seek=$((${END:-0})) conv=notrunc status=none
echo "  30 bytes of a batch at byte $((${END:-0})) of $(basename "$LAST")"
start_node one
RAFKA_BOOTSTRAP=$(address one)
run timeout 60 "$BIN/rafka" subscribe events --from-beginning --exit-at-end -f '%v\n' >"$WORK/read"
[[ $(wc -l <"$WORK/read") -eq 4000 ]] || fail "$(wc -l <"$WORK/read") events after the torn tail"
echo "  all 4000 events are there"

say "Trim: the log may start later. Offsets never change."
run "$BIN/rafka" topic trim events --before-offset 1000 --yes
run "$BIN/rafka" topic offsets events
run timeout 30 "$BIN/rafka" subscribe events --from-beginning -n 1 -f '%o %v\n' | tee "$WORK/first"
[[ $(cat "$WORK/first") == '1000 event number 1001' ]] || fail "the log does not start at 1000"
say "Done."
