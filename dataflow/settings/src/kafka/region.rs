//! The region of an Amazon MSK cluster: AWS_REGION, AWS_DEFAULT_REGION, or what the bootstrap servers' names say.

use crate::SettingsError;
use std::ffi::OsStr;

/// The variables that AWS' own programs read, the first one wins.
const NAMES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// Their values.
#[derive(Default)]
pub(super) struct Variables([String; 2]);

impl Variables {
    /// Keeps a variable if it is one of them.
    pub(super) fn see(&mut self, name: &OsStr, value: &OsStr) {
        if let Some(place) = NAMES.iter().position(|known| name == *known) {
            self.0[place] = value.to_string_lossy().trim().to_owned();
        }
    }
}

/// The region, or what to set.
pub(super) fn find(variables: &Variables, bootstrap: &str) -> Result<String, SettingsError> {
    if let Some((name, region)) = NAMES.iter().zip(&variables.0).find(|(_, value)| !value.is_empty()) {
        return match is_region(region) {
            true => Ok(region.clone()),
            false => Err(SettingsError::Conflict(format!("{name}: allowed: a region of AWS, as in eu-west-1"))),
        };
    }
    let told = "sasl.mechanisms=AWS_MSK_IAM needs the region of the cluster, which KAFKA_BOOTSTRAP does not name: set AWS_REGION";
    bootstrap.split(',').find_map(of_host).ok_or_else(|| SettingsError::Conflict(told.to_owned()))
}

/// Of `b-1.NAME.ID.c2.kafka.REGION.amazonaws.com:9098` and `boot-ID.c1.kafka-serverless.REGION.amazonaws.com:9098`.
fn of_host(address: &str) -> Option<String> {
    let host = address.trim().rsplit_once(':').map_or(address, |(host, _)| host).to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    labels.windows(3).find_map(|labels| match labels {
        ["kafka" | "kafka-serverless", region, "amazonaws"] if is_region(region) => Some((*region).to_owned()),
        _ => None,
    })
}

/// It becomes part of a host's name.
fn is_region(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(legal)
}
