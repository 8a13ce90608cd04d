#!/usr/bin/env bash
# Packs the static binaries with Dockerfile.static, starts the image, and publishes a record to it. Needs buildah, which
# needs no daemon: `--isolation chroot` and the vfs driver work inside other containers too.
. "$(dirname "$0")/lib.sh"
find_binaries

if ! command -v buildah >/dev/null; then
    if [[ ${CI:-} != true ]]; then
        echo "SKIPPED: image test: there is no buildah (set CI=true to have it installed, or apt-get install buildah)" >&2
        exit 0
    fi
    SUDO=
    [[ $(id -u) -eq 0 ]] || SUDO=sudo
    $SUDO apt-get update -q
    $SUDO apt-get install -q -y --no-install-recommends buildah
fi
for name in rafka rafka-node; do
    if { ldd "$BIN/$name" 2>&1 || true; } | grep -q '=>'; then
        fail "$name is not static; build with RUSTFLAGS='-C target-feature=+crt-static' and an explicit --target"
    fi
done
start_work
STORAGE=(--root "$WORK/storage" --runroot "$WORK/run" --storage-driver vfs)

say "Build from Dockerfile.static"
mkdir -p "$WORK/context/data"
cp "$BIN/rafka" "$BIN/rafka-node" "$WORK/context/"
run buildah "${STORAGE[@]}" bud --quiet --isolation chroot --format docker --tag rafka:test --file "$ROOT/Dockerfile.static" "$WORK/context"
USER_OF_IMAGE=$(buildah "${STORAGE[@]}" inspect --type image --format '{{.Docker.Config.User}}' rafka:test)
[[ $USER_OF_IMAGE == 65532:65532 ]] || fail "the image runs as $USER_OF_IMAGE"

say "Without a join token it must not open its door to other machines"
CONTAINER=$(buildah "${STORAGE[@]}" from --pull-never rafka:test)
mkdir -m 0777 "$WORK/out"
inside() { buildah "${STORAGE[@]}" run --isolation chroot --volume "$WORK/out:/out" "$CONTAINER" -- "$@"; }
if inside /rafka-node >"$WORK/refused" 2>&1; then fail "it started"; fi
grep -q 'join token' "$WORK/refused" || { cat "$WORK/refused"; fail "it refused for another reason"; }
grep 'hint' "$WORK/refused" | head -1

say "Start it, and publish to it"
inside /rafka-node --listen 127.0.0.1:0 --kafka-listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --ready-file /out/ready.json \
    >"$WORK/container.log" 2>&1 &
INSIDE=$!
NODES+=("$INSIDE")
READY=$WORK/out/ready.json
await 60 "the node being ready" test -s "$READY"
RAFKA_BOOTSTRAP=$(field "$READY" mesh)
export RAFKA_BOOTSTRAP
run "$BIN/rafka" topic create packed -p 1
run "$BIN/rafka" publish packed 'from outside'
run timeout 30 "$BIN/rafka" subscribe packed --from-beginning -n 1 -f '%v\n' | grep -qx 'from outside' ||
    fail "the record did not come back"

say "The health check of the image"
inside /rafka node status --ops "$(field "$READY" ops)" >/dev/null || fail "the health check fails"
# The node is a child of buildah in the same pid namespace; by its own pid it can be ended in order.
kill -TERM "$(field "$READY" pid)"
wait "$INSIDE" || fail "the node did not end in order"
say "Done: $(du -h "$BIN/rafka-node" | cut -f1) of node, nothing else in the image."
