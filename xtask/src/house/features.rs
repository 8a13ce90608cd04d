use std::path::Path;

use super::cargo;

/// What ships cannot switch a rule of the protocol off: the feature `mutants` of `broker` is for simulations alone, and
/// features are common to all packages of one build.
///
/// # Errors
/// The features cannot be listed.
pub fn features(root: &Path) -> Result<Vec<String>, String> {
    // As releases are built: all default members together; and each program on its own.
    let builds: [&[&str]; 3] = [&[], &["--package", "rafka-node"], &["--package", "rafka-cli"]];
    let mut violations = Vec::new();
    for build in builds {
        let tree = ["tree", "--locked", "--edges", "features,no-dev", "--invert", "rafka-broker"];
        let tree = cargo(root, &[&tree[..], build].concat())?;
        let by = tree.lines().skip_while(|line| !line.contains("rafka-broker feature \"mutants\"")).nth(1);
        if tree.contains("rafka-broker feature \"mutants\"") {
            let (what, by) = (build.last().unwrap_or(&"the default members"), by.unwrap_or_default().trim());
            violations.push(format!("{what}: rafka-broker has the feature `mutants`, through {by}"));
        }
    }
    Ok(violations)
}
