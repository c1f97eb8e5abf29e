//! `checkpoint`: what there is, whether it can be used, and away with it; a run goes on from what is left.

use super::stack::Stack;
use std::path::{Path, PathBuf};

/// Names, newest first, with what is said of their state.
fn listed(stack: &Stack) -> Vec<(String, String)> {
    let said = stack.run(&["checkpoint", "list"]).expect(0);
    let words = |line: &str| {
        let words: Vec<&str> = line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
        (words[0].to_owned(), words[words.len() - 1].to_owned())
    };
    said.out.lines().skip(1).map(words).collect()
}

/// The files that a checkpoint's name leads to.
fn files(stack: &Stack, name: &str) -> Vec<PathBuf> {
    let below = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut found = Vec::new();
    let mut left = below(stack.path("checkpoints"));
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(below(path));
        } else if path.to_string_lossy().contains(name) {
            found.push(path);
        }
    }
    found
}

fn is_ids(file: &Path) -> bool {
    file.parent().unwrap().to_string_lossy().ends_with("-ids")
}

#[test]
fn they_are_listed_inspected_and_removed_and_a_run_goes_on_from_what_is_left() {
    for stack in Stack::all("checkpoint") {
        for seed in [1, 2] {
            stack.publish_hour(500, seed);
            stack.catch_up(&["--workers", "2"]);
        }
        let all = listed(&stack);
        assert!(all.len() >= 2 && all.iter().all(|(_, state)| state == "usable"), "{all:?}");
        let (newest, before) = (all[0].0.as_str(), all[1].0.as_str());
        let said = stack.run(&["checkpoint", "inspect", newest]).expect(0);
        assert!(said.out.ends_with("usable\n") && said.out.contains("\"next_offset\""), "{said:#?}");
        stack.run(&["checkpoint", "inspect", "00000000-7-7"]).expect(1);

        // One byte of it changes on the disk.
        let part = files(&stack, newest).pop().expect("a checkpoint has parts");
        let mut bytes = std::fs::read(&part).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&part, bytes).unwrap();
        let now = listed(&stack);
        assert!(now[0].1 != "usable" && now[1].1 == "usable", "{now:?}");
        let said = stack.run(&["checkpoint", "inspect", newest]).expect(1);
        assert!(said.out.contains("cannot be used: "), "{said:#?}");

        assert!(stack.run(&["checkpoint", "rm", newest]).expect(0).out.contains(newest));
        // Its ids go with the next checkpoint: one that is being made may need them.
        let left = files(&stack, newest);
        assert!(listed(&stack).iter().all(|(name, _)| name != newest) && left.iter().all(|file| is_ids(file)), "{left:?}");
        stack.run(&["checkpoint", "rm", newest]).expect(1);

        stack.publish_hour(500, 3);
        let said = stack.run(&["run", "--until-end"]).expect(0);
        assert!(said.err.contains(&format!("checkpoint=\"{before}\"")), "it goes on from the one before: {said:#?}");
        stack.run(&["verify"]).expect(0);
        assert!(files(&stack, newest).is_empty());
    }
}
