#!/usr/bin/env bash
# The bounded part of the proof: everything that can happen within small bounds, seeds of both durability modes, and each
# rule switched off. Prints what it saw; fails if an invariant breaks, or if a rule can be dropped unnoticed.
set -euo pipefail
cd "$(dirname "$0")/.."
HOST=$(rustc -vV | sed -n 's/^host: //p')
TARGET=${CARGO_TARGET_DIR:-$PWD/target}

# As scripts/test.sh builds what is shipped, so that dependencies are shared; without the parts that run real nodes.
case $HOST in
    *linux*) export RUSTFLAGS="-C target-feature=+crt-static" ;;
esac
cargo build --release --locked --target "$HOST" -p rafka-simulations --no-default-features --bin rafka-simulations
simulations=$TARGET/$HOST/release/rafka-simulations

"$simulations" explore --bounds small
"$simulations" seeds --count "${SEEDS_COUNT:-4000}" --first "${SEEDS_FIRST:-1}"
# Each rule, where its absence shows soonest: in a cluster, or in its machine alone.
"$simulations" mutants
