use super::*;

fn read(role: Role, given: &[(&str, &str)]) -> Result<Properties, SettingsError> {
    let environment = given.iter().map(|(name, value)| (format!("KAFKA__{name}").into(), value.into()));
    Properties::read(role, "broker:9092", None, environment)
}

fn refusal(role: Role, name: &str, value: &str) -> String {
    let told = read(role, &[(name, value)]).expect_err(name).to_string();
    assert!(told.contains(name) && told.contains(&format!("KAFKA__{name}")), "{told}");
    told
}

#[test]
fn what_a_promise_rests_on_is_refused_with_the_reason() {
    for (name, value, reason) in [
        ("auto.offset.reset", "latest", "skipped in silence"),
        ("isolation.level", "read_uncommitted", "aborted"),
        ("enable.partition.eof", "false", "--until-end"),
        ("enable.auto.commit", "true", "in the store"),
        ("topic.blacklist", "stream.*", "hides"),
        ("topic.metadata.refresh.interval.ms", "-1", "leader"),
        ("socket.max.fails", "0", "noticed"),
        ("plugin.library.paths", "x.so", "loads code"),
        ("api.version.request", "false", "aborted"),
        ("rebalance_cb", "x", "text"),
        ("bootstrap.servers", "other:9092", "KAFKA_BOOTSTRAP"),
        ("metadata.broker.list", "other:9092", "KAFKA_BOOTSTRAP"),
    ] {
        let told = refusal(Role::Consumer, name, value);
        assert!(told.contains(reason), "{told}");
    }
    for (name, value) in
        [("acks", "1"), ("request.required.acks", "0"), ("enable.idempotence", "false"), ("transactional.id", "t")]
    {
        refusal(Role::Producer, name, value);
    }
}

#[test]
fn our_own_values_and_the_other_side_s_properties_are_allowed() {
    let ours = [("auto.offset.reset", "error"), ("isolation.level", "READ_COMMITTED"), ("bootstrap.servers", "broker:9092")];
    read(Role::Consumer, &ours).unwrap();
    assert_eq!(read(Role::Consumer, &[("acks", "1"), ("transactional.id", "t")]).unwrap(), Properties::default());
    assert_eq!(read(Role::Producer, &[("auto.offset.reset", "latest")]).unwrap(), Properties::default());
}

#[test]
fn an_alias_is_the_property_itself() {
    let properties = read(Role::Producer, &[("queue.buffering.max.ms", "7"), ("retries", "9")]).unwrap();
    assert_eq!(properties.iter().collect::<Vec<_>>(), [("linger.ms", "7"), ("message.send.max.retries", "9")]);
}

#[test]
fn a_property_that_is_none_is_told_with_the_nearest() {
    assert!(refusal(Role::Consumer, "auto.offset.rest", "x").contains("the nearest is auto.offset.reset"));
    assert!(refusal(Role::Consumer, "Security.Protocol", "x").contains("security.protocol"));
    let told = refusal(Role::Consumer, "sasl.jaas.config", "x y password=\"hidden\";");
    assert!(told.contains("sasl.password") && !told.contains("hidden"), "{told}");
    assert!(refusal(Role::Consumer, "zzzzzzzzzzzzzzzzz", "x").contains("CONFIGURATION.md"));
}

#[test]
fn the_file_is_read_and_the_environment_wins() {
    let path = std::env::temp_dir().join(format!("tidemark-properties-{}", std::process::id()));
    std::fs::write(&path, "# ours\nclient.id = a=b \n\nclient.rack=r\n").unwrap();
    let environment = || [("KAFKA__client.rack".into(), "s".into()), ("OTHER".into(), "x".into())].into_iter();
    let properties = Properties::read(Role::Consumer, "b:1", Some(&path), environment()).unwrap();
    assert_eq!(properties.iter().collect::<Vec<_>>(), [("client.id", "a=b"), ("client.rack", "s")]);
    std::fs::write(&path, "client.id=a\nisolation.level=read_uncommitted\n").unwrap();
    let told = Properties::read(Role::Consumer, "b:1", Some(&path), environment()).unwrap_err().to_string();
    assert!(told.contains("line 2 of") && told.contains("read_committed"), "{told}");
    std::fs::remove_file(path).unwrap();
}

#[cfg(unix)]
#[test]
fn an_environment_that_is_not_utf_8_is_no_reason_to_panic() {
    use std::os::unix::ffi::OsStringExt;
    let bad = || OsString::from_vec(b"s\xffecret".to_vec());
    Properties::read(Role::Consumer, "b:1", None, [("OTHER".into(), bad()), (bad(), "x".into())].into_iter()).unwrap();
    let told = Properties::read(Role::Consumer, "b:1", None, [("KAFKA__client.id".into(), bad())].into_iter()).unwrap_err();
    assert!(told.to_string().contains("UTF-8") && !told.to_string().contains("ecret"), "{told}");
}

/// Passwords of printable characters, without a generator of another crate.
fn secrets() -> impl Iterator<Item = String> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let alphabet: Vec<char> = ('!'..='~').chain("äß 密\t".chars()).collect();
    (0..300).map(move |_| (0..8 + next() % 8).map(|_| alphabet[(next() % alphabet.len() as u64) as usize]).collect())
}

#[test]
fn no_value_is_ever_told() {
    for secret in secrets() {
        for name in rules::names().chain(["sasl.jaas.config", "no.such.thing", "acks "]) {
            for role in [Role::Consumer, Role::Producer] {
                let told = match read(role, &[(name, &secret)]) {
                    Ok(properties) => format!("{properties:?}"),
                    Err(error) => format!("{error} {error:?}"),
                };
                assert!(!told.contains(&secret), "{name}: {told}");
            }
        }
        let properties = read(Role::Consumer, &[("sasl.password", &secret)]).unwrap();
        let told = properties.redact(&format!("SASL of {secret}: {secret} is wrong"));
        assert!(!told.contains(&secret), "{told}");
        for said in [
            "Invalid value \"{}\" for configuration property \"debug\"",
            "Configuration property \"x\" value {} is outside allowed range 0..9\n",
        ] {
            assert!(!fault(&said.replace("{}", &secret)).contains(&secret), "{said}");
        }
    }
    assert_eq!(fault("Configuration property \"linger.ms\" value -5 is outside allowed range 0..900000\n"), "allowed: 0..900000");
}

#[test]
fn each_property_has_one_rule() {
    let mut names: Vec<&str> = rules::names().collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    assert!(names.iter().all(|name| rules::find(name).is_some()));
}
