//! Rejected records: list, show, publish again.

mod print;
mod replay;

use super::args::{DeadLettersCommand, ListArgs, PlaceArgs, ShowArgs};
use super::books::{self, Books, Filter, Position};
use super::{OpsError, Outcome, output_failed};
use crate::run::Control;
use std::io::Write;
use std::sync::Arc;
use tidemark_settings::log::Log;

/// Runs one of the commands.
///
/// `control` ends a replay between two letters.
pub fn run(command: &DeadLettersCommand, control: Option<&Arc<Control>>, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    match command {
        DeadLettersCommand::List(args) => list(args, out),
        DeadLettersCommand::Show(args) => show(args, out),
        DeadLettersCommand::Replay(args) => replay::run(args, control.unwrap_or(&Arc::default()), out),
    }
}

fn list(args: &ListArgs, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let (log, mut books) = open(&args.place, None)?;
    let filter = args.filter.filter();
    let letters = books.letters(log.topic(), &filter, args.limit)?;
    if args.json {
        for letter in &letters {
            writeln!(out, "{}", print::object(letter)).map_err(output_failed)?;
        }
        return Ok(Outcome::Fine);
    }
    let count = books.count_letters(log.topic(), &filter)?;
    let text = print::table(&letters) + &format!("{} of {count} dead letters of topic {}\n", letters.len(), log.topic());
    out.write_all(text.as_bytes()).map_err(output_failed)?;
    Ok(Outcome::Fine)
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<Outcome, OpsError> {
    let (log, mut books) = open(&args.place, None)?;
    let at = Position { partition: args.partition, offset: args.offset };
    let Some(letter) = books.letters(log.topic(), &Filter::only(at), 1)?.pop() else {
        let topic = log.topic();
        tracing::error!("topic {topic} has no dead letter at partition {} offset {}", at.partition, at.offset);
        return Ok(Outcome::Differences);
    };
    let bytes = match (args.raw, args.json) {
        (true, _) => letter.payload.unwrap_or_default(),
        (_, true) => format!("{}\n", print::object(&letter)).into_bytes(),
        _ => print::all_of(log.topic(), &letter).into_bytes(),
    };
    out.write_all(&bytes).map_err(output_failed)?;
    Ok(Outcome::Fine)
}

fn open(place: &PlaceArgs, control: Option<&Arc<Control>>) -> Result<(Log, Box<dyn Books>), OpsError> {
    let refused = |error: tidemark_settings::SettingsError| OpsError::Refused(error.to_string());
    let log = place.log.resolve(&None).map_err(refused)?;
    let store = place.store.resolve(&place.log.data_dir).map_err(refused)?;
    let books = books::open(&store, control)?;
    Ok((log, books))
}
