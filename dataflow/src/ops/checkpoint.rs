//! Checkpoints: list, inspect, remove.

use super::args::{CheckpointArgs, CheckpointCommand, CheckpointNameArgs};
use super::books::{self, Books, Checkpoints};
use super::{OpsError, Outcome};
use crate::checkpoint::directory::Directory;
use crate::checkpoint::{Holds, Id, Manifest, Parts};
use crate::keys::{HashKey, Keys};
use std::fmt::Write as _;
use std::io::Write;
use tidemark_settings::kafka::Role;

/// Runs one of the commands.
pub fn run(command: &CheckpointCommand, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    match command {
        CheckpointCommand::List(args) => list(&Place::open(args)?, out),
        CheckpointCommand::Inspect(args) => inspect(&Place::open(&args.at)?, args.id, out),
        CheckpointCommand::Rm(args) => remove(Place::open(&args.at)?, args, out),
    }
}

/// The store's word of its checkpoints, and the directory.
struct Place {
    books: Box<dyn Books>,
    checkpoints: Checkpoints,
    parts: Directory,
}

impl Place {
    fn open(args: &CheckpointArgs) -> Result<Place, OpsError> {
        let refused = |error: tidemark_settings::SettingsError| OpsError::Refused(error.to_string());
        let log = args.place.log.resolve(Role::Consumer, &None).map_err(refused)?;
        let store = args.place.store.resolve(&args.place.log.data_dir).map_err(refused)?;
        let path = args.checkpoint_dir.clone().unwrap_or_else(|| args.place.log.data_dir.join("checkpoints"));
        let parts =
            Directory::open(&path).map_err(|error| OpsError::File(format!("CHECKPOINT_DIR={}", path.display()), error))?;
        let mut books = books::open(&store, None)?;
        let pipeline = &args.place.pipeline;
        let checkpoints = books.checkpoints(pipeline, log.topic())?;
        let none =
            || OpsError::Refused(format!("{store} holds no pipeline {pipeline}: check PIPELINE, or start tidemark-dataflow"));
        Ok(Place { checkpoints: checkpoints.ok_or_else(none)?, books, parts })
    }

    /// Those that the store names, newest first. One of another version may say less than is asked for.
    fn named(&self) -> impl Iterator<Item = (Option<Id>, Result<Manifest, String>)> {
        self.checkpoints.named.as_array().into_iter().flatten().map(|value| {
            let id = serde_json::from_value(value["id"].clone()).ok();
            let manifest = serde_json::from_value(value.clone());
            (id, manifest.map_err(|error| format!("it is of version {}, unknown to this program ({error})", value["version"])))
        })
    }

    /// Why a restart could not use it.
    fn check(&self, manifest: Result<&Manifest, String>) -> Result<(), String> {
        manifest?.check(&self.parts, &self.checkpoints.next_offsets).map_err(|why| why.to_string())
    }
}

fn list(place: &Place, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let mut named = Vec::new();
    let mut text = format!("{:<28}  {:<27}  {:>12}  {:>5}  STATE\n", "NAME", "TAKEN AT", "BYTES", "PARTS");
    for (id, manifest) in place.named() {
        named.extend(id);
        let name = id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        let (taken_at, bytes, parts) = manifest.as_ref().map_or_else(
            |_| ("?".to_owned(), "?".to_owned(), "?".to_owned()),
            |manifest| (manifest.taken_at.to_string(), manifest.bytes().to_string(), manifest.parts.len().to_string()),
        );
        let state = place.check(manifest.as_ref().map_err(Clone::clone)).map_or_else(|why| why, |()| "usable".to_owned());
        writeln!(text, "{name:<28}  {taken_at:<27}  {bytes:>12}  {parts:>5}  {state}").expect("a string takes all text");
    }
    let pipeline = Keys::new(HashKey(place.checkpoints.hash_key)).tag();
    let mut there = place.parts.list().map_err(|error| OpsError::File("CHECKPOINT_DIR".to_owned(), error))?;
    there.retain(|set| set.id.pipeline == pipeline && set.id.number > 0 && set.holds == Holds::State && !named.contains(&set.id));
    for set in there {
        let (set, unknown) = (set.to_string(), "-");
        writeln!(text, "{set:<28}  {unknown:<27}  {unknown:>12}  {unknown:>5}  being made, or left over: not used")
            .expect("a string takes all text");
    }
    out.write_all(text.as_bytes()).map_err(OpsError::Output)?;
    Ok(Outcome::Fine)
}

fn inspect(place: &Place, id: Id, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let Some((_, manifest)) = place.named().find(|(named, _)| *named == Some(id)) else { return unknown(id) };
    let checked = place.check(manifest.as_ref().map_err(Clone::clone));
    let mut text = match &manifest {
        Ok(manifest) => serde_json::to_string_pretty(manifest).expect("a manifest is plain data") + "\n",
        Err(_) => String::new(),
    };
    text += &checked.as_ref().map_or_else(|why| format!("cannot be used: {why}\n"), |()| "usable\n".to_owned());
    out.write_all(text.as_bytes()).map_err(OpsError::Output)?;
    Ok(if checked.is_ok() { Outcome::Fine } else { Outcome::Differences })
}

fn remove(mut place: Place, args: &CheckpointNameArgs, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let index = place.named().position(|(named, _)| named == Some(args.id));
    // Its ids are not its own: other checkpoints may need them, also one that is being made. They go when none does.
    let state = args.id.set(Holds::State);
    let there = place.parts.list().is_ok_and(|sets| sets.contains(&state));
    if index.is_none() && !there {
        return unknown(args.id);
    }
    if let Some(index) = index {
        let (pipeline, read) = (&args.at.place.pipeline, &place.checkpoints.named);
        if !place.books.forget_checkpoint(pipeline, read, index)? {
            return Err(OpsError::Refused("the pipeline made another checkpoint just now: look at the list again".to_owned()));
        }
    }
    if there {
        place.parts.remove(state).map_err(|error| OpsError::File(args.id.to_string(), error))?;
    }
    writeln!(out, "removed {}", args.id).map_err(OpsError::Output)?;
    Ok(Outcome::Fine)
}

fn unknown(id: Id) -> Result<Outcome, OpsError> {
    tracing::error!("there is no checkpoint {id}: see `checkpoint list`");
    Ok(Outcome::Differences)
}
