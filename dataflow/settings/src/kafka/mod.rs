//! The user's properties of librdkafka: which there are, which values are allowed, and what may be said of them.
//!
//! What the pipeline promises rests on some properties. [`rules`] has a rule for each one that librdkafka knows. A message names a
//! property, where it was set and what is allowed, and not its value: that may be a password, also in a property that has none. Only the
//! path of a file that is there is told.

mod files;
mod login;
mod region;
pub mod rules;

pub use login::{MSK_IAM, Remedy, TLS, VERSION, remedy};

use crate::{SettingsError, file, secret};
use rules::Rule;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// Prefix of environment variables that are passed to librdkafka: `KAFKA__SECURITY_PROTOCOL=ssl`, or `KAFKA__security.protocol=ssl`.
const PREFIX: &str = "KAFKA__";
/// A variable whose name ends so holds the path of a file that holds the value.
const OF_FILE: &str = "_FILE";

/// The variable that sets this property, as a shell takes it.
pub fn variable(name: &str) -> String {
    format!("{PREFIX}{}", rules::in_capitals(name))
}

/// What a program does with the topic. Properties of the other side are left out, as librdkafka itself would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It reads.
    Consumer,
    /// It writes.
    Producer,
}

/// Properties that the user has set, all of them allowed. Printed for debugging it has only their names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    values: BTreeMap<&'static str, String>,
    /// Where each of them was set, for messages.
    places: BTreeMap<&'static str, String>,
    /// Set if the mechanism is AWS_MSK_IAM.
    msk_region: Option<String>,
}

impl Properties {
    /// Reads a file and the environment, which wins, and refuses what is not allowed.
    pub fn read(
        role: Role,
        bootstrap: &str,
        file: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Properties, SettingsError> {
        let (mut given, mut of_aws) = (Vec::new(), region::Variables::default());
        if let Some(path) = file {
            read_file(path, &mut given)?;
        }
        read_environment(environment.inspect(|(name, value)| of_aws.see(name, value)), &mut given)?;
        let (mut properties, mut places) = (Properties::default(), BTreeMap::new());
        for Given { name, value, place } in given {
            let known = rules::find(&name).ok_or_else(|| unknown(&name, &place))?;
            places.insert(known.name, place.clone());
            let refused = |allowed: String| SettingsError::Property { name: name.clone(), place: place.clone(), allowed };
            if value.contains('\0') {
                return Err(refused("its value must not contain a NUL character".to_owned()));
            }
            if !known.side.is_for(role) {
                continue;
            }
            match known.rule {
                Rule::Free | Rule::Secret => drop(properties.values.insert(known.name, value)),
                Rule::Brokers if value == bootstrap => {}
                Rule::Brokers => return Err(refused("set KAFKA_BOOTSTRAP instead, which messages name".to_owned())),
                Rule::Only(allowed, why) => match allowed.iter().find(|allowed| value.eq_ignore_ascii_case(allowed)) {
                    Some(&"") => {}
                    Some(&allowed) => drop(properties.values.insert(known.name, allowed.to_owned())),
                    None => return Err(refused(format!("allowed: {}, because {why}", shown(allowed)))),
                },
                Rule::Within(least, most, why) => match value.parse::<i64>() {
                    Ok(number) if (least..=most).contains(&number) => drop(properties.values.insert(known.name, value)),
                    _ => return Err(refused(format!("allowed: {least} to {most}, because {why}"))),
                },
                Rule::Never(why) => return Err(refused(format!("it cannot be set, because {why}"))),
            }
        }
        login::check(&properties, &places)?;
        places.retain(|name, _| properties.values.contains_key(name));
        properties.places = places;
        if properties.get("sasl.mechanisms") == Some(rules::AWS_MSK_IAM) {
            properties.msk_region = Some(region::find(&of_aws, bootstrap)?);
            // What MSK's brokers call it. The token is made by the program, so librdkafka needs no method.
            properties.values.insert("sasl.mechanisms", "OAUTHBEARER".to_owned());
        }
        Ok(properties)
    }

    /// The region of the Amazon MSK cluster, if the login is by AWS_MSK_IAM.
    pub fn msk_region(&self) -> Option<&str> {
        self.msk_region.as_deref()
    }

    /// The value of a property that is set.
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Sets a property of ours that the user did not set.
    pub fn set_default(&mut self, name: &str, value: &str) {
        let known = rules::find(name).expect("our own properties have a rule");
        self.values.entry(known.name).or_insert_with(|| value.to_owned());
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// The setting at fault, if librdkafka makes no client and tells why. None: the system has nothing left for one, and it may pass.
    pub fn no_client(&self, said: &str) -> Option<SettingsError> {
        login::no_client(self, said)
    }

    /// A text of librdkafka without the secrets among the properties.
    pub fn redact(&self, text: &str) -> String {
        let is_secret = |name: &str| rules::find(name).is_some_and(|known| known.rule == Rule::Secret);
        let secrets = self.iter().filter(|(name, value)| is_secret(name) && !value.is_empty());
        // A key has several lines, and may be told in parts.
        let lines =
            |value| std::iter::once(value).chain(str::lines(value).filter(|line| line.len() >= 16 && !line.starts_with('-')));
        let mut secrets: Vec<&str> = secrets.flat_map(|(_, value)| lines(value)).collect();
        // The longest first: another one may be a part of it.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(*secret, "(secret)"))
    }
}

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// What librdkafka says of a property that it does not take, without the value, which its own words contain.
pub fn fault(said: &str) -> String {
    if let Some((_, range)) = said.split_once("is outside allowed range ") {
        let allowed = |byte: char| byte.is_ascii_digit() || ".-+e".contains(byte);
        return format!("allowed: {}", range.chars().take_while(|&byte| allowed(byte)).collect::<String>());
    }
    let known = ["not supported in this build", "true or false", "cannot be set to empty value"];
    match known.iter().find(|known| said.contains(*known)) {
        Some(&"true or false") => "allowed: true or false".to_owned(),
        Some(known) => (*known).to_owned(),
        None => "its value is not allowed; see CONFIGURATION.md of librdkafka".to_owned(),
    }
}

struct Given {
    name: String,
    value: String,
    /// Where it was set, for messages.
    place: String,
}

fn read_file(path: &Path, given: &mut Vec<Given>) -> Result<(), SettingsError> {
    let text = file::read_text(path).map_err(|source| {
        let name = "KAFKA_PROPERTIES".to_owned();
        if secret::may_be(&path.to_string_lossy()) {
            let allowed = format!("it must be the path of a file with a property in each line, which cannot be read: {source}");
            return SettingsError::Hidden { name, allowed };
        }
        SettingsError::Unreadable { name, path: path.to_owned(), source }
    })?;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("line {} of KAFKA_PROPERTIES={}", index + 1, path.display());
        let Some((name, value)) = line.split_once('=') else {
            let allowed = "each line must be key=value, empty, or start with #".to_owned();
            return Err(SettingsError::Conflict(format!("{place}: {allowed}")));
        };
        given.push(Given { name: name.trim().to_owned(), value: value.trim().to_owned(), place });
    }
    Ok(())
}

fn read_environment(
    environment: impl Iterator<Item = (OsString, OsString)>,
    given: &mut Vec<Given>,
) -> Result<(), SettingsError> {
    let mut set_by: BTreeMap<&str, String> = BTreeMap::new();
    for (variable, value) in environment {
        let Some(name) = variable.to_str().and_then(|variable| variable.strip_prefix(PREFIX)) else { continue };
        if value.is_empty() {
            continue;
        }
        let place = format!("{PREFIX}{name}");
        let refused =
            |name: &str, allowed: String| Err(SettingsError::Property { name: name.to_owned(), place: place.clone(), allowed });
        let Ok(value) = value.into_string() else { return refused(name, "its value must be UTF-8".to_owned()) };
        // A property's own name may end so too: then the value is the property's.
        let of_file = || name.strip_suffix(OF_FILE).and_then(rules::meant_by);
        let (known, is_path) = match (rules::meant_by(name), of_file()) {
            (Some(known), _) => (known, false),
            (None, Some(known)) => (known, true),
            (None, None) => return Err(unknown(name, &place)),
        };
        if let Some(other) = set_by.insert(known.name, place.clone()) {
            let what = format!("{other} and {place} both set the Kafka property {}: set one of them", known.name);
            return Err(SettingsError::Conflict(what));
        }
        let value = match is_path.then(|| file::read_text(Path::new(&value))).transpose() {
            Ok(None) => value,
            Ok(Some(text)) => text.trim_end_matches(['\r', '\n']).to_owned(),
            // Not its path: it may be the secret itself, under the wrong name.
            Err(error) => return refused(known.name, format!("its file cannot be read: {error}")),
        };
        given.push(Given { name: known.name.to_owned(), value, place });
    }
    Ok(())
}

const INSTEAD_OF_HANDLER: &str =
    "set sasl.oauthbearer.method and its properties, or for Amazon MSK only sasl.mechanisms=AWS_MSK_IAM";

/// What people mean who bring the properties of Java's client.
const OF_JAVA: &[(&str, &str)] = &[
    ("sasl.jaas.config", "set sasl.username and sasl.password, or for Amazon MSK only sasl.mechanisms=AWS_MSK_IAM"),
    ("ssl.truststore.", "set ssl.ca.location to a file in the form PEM"),
    ("ssl.keystore.", "set ssl.certificate.location and ssl.key.location to files in the form PEM, or ssl.keystore.location"),
    ("sasl.client.callback.handler.class", INSTEAD_OF_HANDLER),
    ("sasl.login.callback.handler.class", INSTEAD_OF_HANDLER),
    ("max.poll.records", "it has no counterpart: remove it"),
    ("key.deserializer", "it has no counterpart: remove it"),
    ("value.deserializer", "it has no counterpart: remove it"),
    ("key.serializer", "it has no counterpart: remove it"),
    ("value.serializer", "it has no counterpart: remove it"),
];

/// A name is shown only if it is like one. In a file, what stands before a `=` may be a line of a key, or a part of a password.
fn unknown(name: &str, place: &str) -> SettingsError {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let of_variable = place.starts_with(PREFIX);
    if !name.bytes().all(legal) || !(of_variable || name.contains('.') || rules::nearest(name).is_some()) {
        let place = if of_variable { "a variable KAFKA__NAME" } else { place };
        return SettingsError::Conflict(format!("{place}: what stands before the = is not the name of a property of librdkafka"));
    }
    let (bare, of_file) = match name.strip_suffix(OF_FILE).filter(|_| of_variable) {
        Some(bare) => (bare, OF_FILE),
        None => (name, ""),
    };
    let dotted = if of_variable && !bare.contains('.') { bare.to_ascii_lowercase().replace('_', ".") } else { bare.to_owned() };
    let typed = |name: &str| if of_variable { variable(name) + of_file } else { name.to_owned() };
    let allowed = match OF_JAVA.iter().find(|(of_java, _)| dotted.starts_with(of_java)) {
        Some((_, instead)) => format!("a property of Java's client, not of librdkafka: {instead}"),
        None => match rules::nearest(&dotted) {
            Some(nearest) => format!("librdkafka has no such property; the nearest is {}", typed(nearest)),
            None => "librdkafka has no such property; see its CONFIGURATION.md".to_owned(),
        },
    };
    SettingsError::Property { name: name.to_owned(), place: place.to_owned(), allowed }
}

fn shown(allowed: &[&str]) -> String {
    let word = |word: &&str| if word.is_empty() { "nothing".to_owned() } else { (*word).to_owned() };
    allowed.iter().map(word).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests;
