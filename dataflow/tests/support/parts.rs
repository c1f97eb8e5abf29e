//! What there is of checkpoints, and what they need: sets of parts by their names.

use std::collections::BTreeSet;
use std::path::Path;
use tidemark_dataflow::checkpoint::Manifest;

/// What is in a directory of checkpoints.
pub fn on_the_disk(checkpoints: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(checkpoints).expect("it is there");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
}

/// What the checkpoints of `progress.checkpoints` need.
pub fn needed(checkpoints: &str) -> BTreeSet<String> {
    let manifests: Vec<Manifest> = serde_json::from_str(checkpoints).expect("manifests");
    manifests.iter().flat_map(Manifest::sets).map(|(set, _)| set.to_string()).collect()
}
