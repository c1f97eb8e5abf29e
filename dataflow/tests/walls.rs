//! No two modules of a crate import each other, directly or through others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The crates whose modules are looked at.
const CRATES: &[&str] = &["dataflow/src", "api/src", "generator/src"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module at the top of the crate that a file belongs to. Not `main` and `lib`, which put modules together; not tests.
fn top(root: &Path, file: &Path) -> Option<String> {
    let inside = file.strip_prefix(root).expect("a file of the crate");
    let is_test = inside.components().any(|part| ["tests", "tests.rs"].iter().any(|name| part.as_os_str() == *name));
    let first = Path::new(inside.components().next().expect("a name").as_os_str()).file_stem()?.to_str()?.to_owned();
    (!is_test && first != "lib" && first != "main").then_some(first)
}

/// The modules that stand behind `crate::`: one, or those of a group.
fn names(rest: &str) -> Vec<String> {
    let name = |rest: &str| rest.trim_start().chars().take_while(|&c| c.is_ascii_alphanumeric() || c == '_').collect();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut depth, mut found) = (0, vec![name(group)]);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(name(&group[at + 1..])),
            _ => {}
        }
    }
    found
}

/// Each module with those that it names.
fn imports(root: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let Some(module) = top(root, &file) else { continue };
        let text = std::fs::read_to_string(&file).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests {").next().expect("a part");
        let lines = code.lines().map(|line| line.split("//").next().expect("a part"));
        let code = lines.collect::<Vec<_>>().concat();
        let others = code.split("crate::").skip(1).flat_map(names).filter(|name| *name != module);
        imports.entry(module.clone()).or_default().extend(others);
    }
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    imports.values_mut().for_each(|others| others.retain(|name| modules.contains(name)));
    imports
}

/// Takes away what imports nothing, until all that is left is in a circle or leads to one.
fn circle(mut imports: BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    loop {
        let leaves: Vec<String> = imports.iter().filter(|(_, others)| others.is_empty()).map(|(name, _)| name.clone()).collect();
        if leaves.is_empty() {
            return imports;
        }
        for leaf in leaves {
            imports.remove(&leaf);
            for others in imports.values_mut() {
                others.remove(&leaf);
            }
        }
    }
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for name in CRATES {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        let found = imports(&root);
        assert!(found.len() > 3, "{name} has modules: {found:?}");
        assert_eq!(circle(found), BTreeMap::new(), "{name}: these import each other in a circle, or lead to one that does");
    }
}
