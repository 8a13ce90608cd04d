//! Which crate may know which.

use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Crates and their layers. A crate uses lower layers only.
const LAYERS: &[(&str, u8)] = &[
    ("rafka-model", 0),
    ("rafka-log", 1),
    ("rafka-broker", 1),
    ("rafka-cache", 1),
    ("rafka-protocols", 2),
    ("rafka-dht", 2),
    ("rafka-kafka", 2),
    ("rafka-client", 3),
    ("rafka-node", 3),
    ("rafka-cli", 4),
    ("rafka-simulations", 4),
    // Above the house: it looks at all of it.
    ("xtask", 5),
];

/// Dependencies that only these crates may have.
const KEPT: &[(&str, &[&str])] = &[
    ("libp2p", &["rafka-protocols", "rafka-dht", "rafka-client", "rafka-node", "rafka-simulations", "xtask"]),
    ("openraft", &["rafka-node"]),
    ("serde_cbor", &["rafka-model"]),
    ("axum", &["rafka-node"]),
    ("clap", &["rafka-node", "rafka-cli", "rafka-simulations", "xtask"]),
];

/// What the pure crates (layers 0 and 1) must not know: clocks, chance, threads, sockets come as arguments.
const IMPURE: &[&str] = &["async-io", "axum", "fastrand", "getrandom", "mio", "rand", "reqwest", "tokio", "tokio-util"];

/// Checks the dependencies between the crates, and who may depend on what.
///
/// # Errors
/// If cargo's metadata cannot be had.
pub fn layers(root: &Path) -> Result<Vec<String>, String> {
    let metadata = MetadataCommand::new()
        .current_dir(root)
        .no_deps()
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))?;
    let mut violations = unplaced(&metadata);
    for package in metadata.workspace_packages() {
        let Some(layer) = layer_of(&package.name) else { continue };
        for dependency in &package.dependencies {
            let kind = dependency.kind;
            violations.extend(looks_up(package, layer, &dependency.name, kind));
            violations.extend(not_for_it(package, layer, &dependency.name, kind));
            let exact = dependency.req.to_string().starts_with('=');
            if dependency.name == "openraft" && !exact {
                violations.push(format!("{}: openraft must be pinned exactly (docs/adr/0002)", package.name));
            }
        }
    }
    Ok(violations)
}

fn layer_of(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

fn unplaced(metadata: &Metadata) -> Vec<String> {
    let packages = metadata.workspace_packages();
    let unplaced = packages.iter().filter(|package| layer_of(&package.name).is_none());
    unplaced.map(|package| format!("{} has no layer; give it one in xtask/src/house/layers.rs", package.name)).collect()
}

/// A test may look sideways, to prove one crate with another; never up.
fn looks_up(package: &Package, layer: u8, dependency: &str, kind: DependencyKind) -> Option<String> {
    let below = layer_of(dependency)?;
    let allowed = below < layer || kind == DependencyKind::Development && below == layer;
    let name = &package.name;
    (!allowed).then(|| format!("{name} (layer {layer}) must not depend on {dependency} (layer {below})"))
}

fn not_for_it(package: &Package, layer: u8, dependency: &str, kind: DependencyKind) -> Option<String> {
    let name = package.name.as_str();
    if kind != DependencyKind::Normal {
        return None;
    }
    let base = if dependency.starts_with("libp2p") { "libp2p" } else { dependency };
    if KEPT.iter().any(|(kept, by)| *kept == base && !by.contains(&name)) {
        return Some(format!("{name} must not depend on {dependency}"));
    }
    (layer <= 1 && IMPURE.contains(&dependency)).then(|| format!("{name} is pure and must not depend on {dependency}"))
}
