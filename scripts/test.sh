#!/usr/bin/env bash
# Every check and test, from a clean checkout on Debian or Ubuntu with Rust. Fast checks first; each phase says how long
# it took. Ends with "ALL PASSED", or with the name of the phase that failed.
set -euo pipefail
cd "$(dirname "$0")/.."
PHASE=setup
trap '[[ $? -eq 0 ]] || printf "\nFAILED in phase: %s\n" "$PHASE" >&2' EXIT

phase() {
    local began=$SECONDS
    PHASE=$1
    shift
    printf '\n\033[1m== %s\033[0m\n' "$PHASE"
    "$@"
    printf '== %s: ok, %d s (%d s in all)\n' "$PHASE" $((SECONDS - began)) "$SECONDS"
}

# A C and C++ compiler (zstd, libFuzzer) and Rust: installed if they are missing and we may.
set_up() {
    local missing=() sudo=
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    command -v c++ >/dev/null || missing+=(g++)
    command -v git >/dev/null || missing+=(git)
    if ((${#missing[@]})); then
        [[ $(id -u) -eq 0 ]] || sudo=sudo
        $sudo apt-get update -q
        $sudo apt-get install -q -y --no-install-recommends "${missing[@]}"
    fi
    if ! command -v cargo >/dev/null && [[ -f $HOME/.cargo/env ]]; then . "$HOME/.cargo/env"; fi
    command -v cargo >/dev/null || { echo "cargo is missing: see https://rustup.rs" >&2; return 1; }
    for part in rustfmt clippy; do
        cargo "${part/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$part"
    done
    cargo --version
}
phase setup set_up

HOST=$(rustc -vV | sed -n 's/^host: //p')
TARGET=${CARGO_TARGET_DIR:-$PWD/target}
export RAFKA_BIN_DIR=$TARGET/$HOST/release RAFKA_XTASK=$TARGET/$HOST/release/xtask

# What is tested is what is shipped: static binaries, built once. An explicit target keeps the flag away from macros.
build() {
    case $HOST in
        *linux*) RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$HOST" \
            --bin rafka --bin rafka-node --bin xtask ;;
        *) cargo build --release --locked --target "$HOST" --bin rafka --bin rafka-node --bin xtask ;;
    esac
    ls -l "$RAFKA_BIN_DIR/rafka" "$RAFKA_BIN_DIR/rafka-node"
}

phase "format" cargo fmt --all --check
phase "rules of the house, licences" cargo xtask check
phase "pure crates" scripts/fast.sh
phase "release build" build
phase "demo: hello, world" scripts/helloworld.sh
phase "demo: partitions" scripts/partition_demo.sh
phase "demo: storage" scripts/storage_demo.sh
phase "simulations: exploration, seeds, mutants" scripts/simulations.sh
phase "tests" cargo test --workspace --locked
phase "examples and benchmarks compile, clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
phase "generated files" cargo xtask generate --check
phase "Kafka clients" cargo xtask compat
phase "image" scripts/image_test.sh
phase "big input: ${BIG_INPUT_MB:-256} MiB" scripts/big_input.sh "${BIG_INPUT_MB:-256}"
phase "big input with kills: ${KILL_INPUT_MB:-512} MiB" scripts/big_input.sh "${KILL_INPUT_MB:-512}" --kill

printf '\nALL PASSED in %d min\n' $((SECONDS / 60))
