//! Hashes the sources of the dataflow and of what it is made of. Processes of one cluster compare it: they exchange rows whose form
//! only the same build is sure to know.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::{Path, PathBuf};

fn main() {
    let mut hasher = DefaultHasher::new();
    for place in ["src", "model/src", "settings/src", "Cargo.toml", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={place}");
        for file in files(Path::new(place)) {
            // What cannot be read is not part of the build either.
            let Ok(bytes) = std::fs::read(&file) else { continue };
            hasher.write(file.as_os_str().as_encoded_bytes());
            hasher.write(&bytes);
        }
    }
    println!("cargo::rustc-env=TIDEMARK_SOURCES={:016x}", hasher.finish());
}

/// The file, or all files below the directory, in order.
fn files(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(place) else { return vec![place.to_owned()] };
    let mut places: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    places.sort();
    places.iter().flat_map(|place| files(place)).collect()
}
