//! What a program says of a command line that it cannot use.

use crate::process;
use clap::error::{ContextKind, ContextValue};

/// clap's words without a word that belongs to no flag: it may be the rest of a password that has a space in it.
pub fn told(error: &clap::Error) -> String {
    let text = error.to_string();
    let stray = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand].into_iter().find_map(|kind| match error.get(kind) {
        Some(ContextValue::String(word)) if !word.is_empty() && !word.starts_with(['-', '<', '[']) => Some(word),
        _ => None,
    });
    stray.map_or_else(|| text.clone(), |word| text.replace(word.as_str(), "…"))
}

/// Ends the program: with status 0 after `--help` and `--version`, otherwise with status 2 and clap's words on standard error.
pub fn exit(error: &clap::Error) -> ! {
    if !error.use_stderr() {
        error.exit();
    }
    process::tell(&told(error));
    process::exit(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreArgs;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Cli {
        #[arg(long)]
        rate: Option<u8>,
        #[command(flatten)]
        store: StoreArgs,
    }

    #[test]
    fn a_word_of_no_flag_is_not_told() {
        let told = |words: &[&str]| match Cli::try_parse_from(words) {
            Err(error) => told(&error),
            Ok(cli) => panic!("{:?} {:?}", cli.rate, cli.store),
        };
        let text = told(&["x", "--database-url", "postgres://me:my", "secret@host/db"]);
        assert!(text.contains("unexpected argument") && !text.contains("secret"), "{text}");
        assert!(told(&["x", "--rat=9"]).contains("--rat"));
        assert!(told(&["x", "--rate=900"]).contains("900"));
    }
}
