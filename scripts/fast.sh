#!/usr/bin/env bash
# The tests of the pure crates: what to run after each change. Under half a minute once compiled.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --quiet -p rafka-model -p rafka-log -p rafka-broker -p rafka-cache "$@"
