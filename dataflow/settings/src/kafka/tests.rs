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
    for (typed, nearest) in [
        ("auto.offset.rest", "the nearest is KAFKA__AUTO_OFFSET_RESET"),
        ("Security.Protocol", "the nearest is KAFKA__SECURITY_PROTOCOL"),
        ("SECURITY_PROTOCOLL", "the nearest is KAFKA__SECURITY_PROTOCOL"),
        ("SASL_PASWORD_FILE", "the nearest is KAFKA__SASL_PASSWORD_FILE"),
        ("SASL_JAAS_CONFIG", "set sasl.username and sasl.password"),
    ] {
        let told = refusal(Role::Consumer, typed, "hidden");
        assert!(told.contains(nearest) && !told.contains("hidden"), "{told}");
    }
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

#[test]
fn a_shell_can_type_every_property() {
    for known in [Role::Consumer, Role::Producer] {
        let properties = read(known, &[("CLIENT_ID", "me"), ("SOCKET_TIMEOUT_MS", "5000"), ("CLIENT_RACK", "")]).unwrap();
        assert_eq!(properties.iter().collect::<Vec<_>>(), [("client.id", "me"), ("socket.timeout.ms", "5000")]);
    }
    let mut typed: Vec<String> = rules::names().map(rules::in_capitals).collect();
    for name in rules::names() {
        assert_eq!(rules::meant_by(&rules::in_capitals(name)).unwrap().name, rules::find(name).unwrap().name);
        // What ends in _FILE is a property of its own, or the file of one, and never both.
        let base = rules::in_capitals(name);
        assert!(base.strip_suffix(OF_FILE).is_none_or(|base| rules::meant_by(base).is_none()), "{name}");
    }
    typed.sort_unstable();
    let all = typed.len();
    typed.dedup();
    assert_eq!(typed.len(), all, "two properties are typed alike");
}

#[test]
fn a_value_can_stand_in_a_file_and_is_set_once() {
    let path = std::env::temp_dir().join(format!("tidemark-value-{}", std::process::id()));
    std::fs::write(&path, "the rack\n").unwrap();
    let file = path.to_str().unwrap();
    for name in ["CLIENT_RACK_FILE", "client.rack_FILE"] {
        assert_eq!(read(Role::Consumer, &[(name, file)]).unwrap().get("client.rack"), Some("the rack"));
    }
    let told = read(Role::Consumer, &[("CLIENT_RACK", "r"), ("CLIENT_RACK_FILE", "/nowhere")]).unwrap_err().to_string();
    assert!(told.contains("one of them"), "{told}");
    for both in [["CLIENT_RACK", "CLIENT_RACK_FILE"], ["CLIENT_RACK", "client.rack"], ["RETRIES", "MESSAGE_SEND_MAX_RETRIES"]] {
        let told = read(Role::Producer, &both.map(|name| (name, file))).unwrap_err().to_string();
        assert!(both.iter().all(|name| told.contains(&format!("KAFKA__{name}"))) && told.contains("one of them"), "{told}");
    }
    std::fs::remove_file(path).unwrap();
    let told = refusal(Role::Consumer, "SASL_PASSWORD_FILE", "hunter2").replace("sasl.password", "SASL_PASSWORD_FILE");
    assert!(told.contains("cannot be read") && !told.contains("hunter2"), "{told}");
}

/// What a login needs is said before any broker is asked.
#[test]
fn settings_of_a_login_that_do_not_belong_together_are_refused() {
    let plain =
        [("SECURITY_PROTOCOL", "SASL_PLAINTEXT"), ("SASL_MECHANISM", "plain"), ("SASL_USERNAME", "me"), ("SASL_PASSWORD", "p")];
    let properties = read(Role::Consumer, &plain).unwrap();
    assert_eq!((properties.get("security.protocol"), properties.get("sasl.mechanisms")), (Some("sasl_plaintext"), Some("PLAIN")));
    for (given, says) in [
        (&plain[1..], "KAFKA__SECURITY_PROTOCOL to sasl_ssl, or sasl_plaintext"),
        (&plain[..1], "needs KAFKA__SASL_MECHANISMS too"),
        (&plain[..3], "needs KAFKA__SASL_PASSWORD too"),
        (&[("SASL_MECHANISM", "GSSAPI")], "allowed: PLAIN or SCRAM-SHA-256 or"),
        (&[("SECURITY_PROTOCOL", "tls")], "allowed: plaintext or ssl or"),
    ] {
        let told = read(Role::Consumer, given).unwrap_err().to_string();
        assert!(told.contains(says), "{told}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn a_build_without_tls_says_how_to_get_it() {
    for (name, value) in [
        ("SECURITY_PROTOCOL", "ssl"),
        ("SECURITY_PROTOCOL", "sasl_ssl"),
        ("SASL_MECHANISM", "SCRAM-SHA-512"),
        ("SASL_MECHANISM", "OAUTHBEARER"),
        ("SSL_CA_LOCATION", "/etc/ssl/certs"),
    ] {
        let told = read(Role::Consumer, &[(name, value)]).unwrap_err().to_string();
        assert!(told.contains(name) && told.contains("--features tls") && told.contains("libssl-dev"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn settings_of_tls_that_do_not_belong_together_are_refused() {
    for (given, says) in [
        (&[("SECURITY_PROTOCOL", "ssl"), ("SSL_CA_LOCATION", "/nowhere/ca.pem")][..], "SSL_CA_LOCATION"),
        (&[("SSL_CA_LOCATION", "/")], "KAFKA__SECURITY_PROTOCOL to ssl or sasl_ssl"),
        (&[("SECURITY_PROTOCOL", "sasl_ssl"), ("SASL_MECHANISM", "OAUTHBEARER")], "KAFKA__SASL_OAUTHBEARER_METHOD=oidc"),
    ] {
        let told = read(Role::Consumer, given).unwrap_err().to_string();
        assert!(told.contains(says), "{told}");
    }
}

/// A pipe that nobody writes would keep the program waiting, and what is no path may be a secret.
#[test]
fn only_regular_files_are_read() {
    let dir = std::env::temp_dir().join(format!("tidemark-files-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let pipe = dir.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, says) in [(&pipe, "not a regular file"), (&dir, "a directory")] {
        let told = refusal(Role::Consumer, "CLIENT_RACK_FILE", path.to_str().unwrap()).replace("client.rack", "CLIENT_RACK_FILE");
        assert!(told.contains(says), "{told}");
        let told = Properties::read(Role::Consumer, "b:1", Some(path), [].into_iter()).unwrap_err().to_string();
        assert!(told.contains("KAFKA_PROPERTIES=") && told.contains(says), "{told}");
    }
    std::fs::remove_dir_all(dir).unwrap();
    let told = Properties::read(Role::Consumer, "b:1", Some(Path::new("sasl.password=hunter2")), [].into_iter());
    let told = told.unwrap_err().to_string();
    assert!(told.contains("KAFKA_PROPERTIES: it must be the path") && !told.contains("hunter2"), "{told}");
}

#[cfg(feature = "tls")]
mod files_of_tls {
    use super::*;

    const BODY: &str = "MIIFLTBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHAQIDoGFzHF/f1oCAggA";

    fn pem(label: &str, head: &str) -> String {
        format!("-----BEGIN {label}-----\n{head}{BODY}\n-----END {label}-----\n")
    }

    /// Files that tests may name, and what is set to them.
    struct Files(std::path::PathBuf);

    impl Files {
        fn new(of: &str) -> Files {
            let dir = std::env::temp_dir().join(format!("tidemark-tls-{of}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let traditional = pem("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0C5C\n\n");
            for (name, text) in [
                ("empty", String::new()),
                ("der", "\u{30}\u{82}".to_owned()),
                ("cert", format!("subject=\u{fc}\n{}", pem("CERTIFICATE", ""))),
                ("key", pem("PRIVATE KEY", "")),
                ("pkcs8", pem("ENCRYPTED PRIVATE KEY", "")),
                ("traditional", traditional),
            ] {
                std::fs::write(dir.join(name), text).unwrap();
            }
            assert!(std::process::Command::new("mkfifo").arg(dir.join("pipe")).status().unwrap().success());
            Files(dir)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).display().to_string()
        }

        fn read(&self, files: &[(&str, &str)], more: &[(&str, &str)]) -> Result<Properties, SettingsError> {
            let files: Vec<_> = files.iter().map(|&(name, file)| (name, self.path(file))).collect();
            let files = files.iter().map(|(name, path)| (*name, path.as_str()));
            read(Role::Consumer, &files.chain([("SECURITY_PROTOCOL", "ssl")]).chain(more.iter().copied()).collect::<Vec<_>>())
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn one_that_cannot_work_is_told_with_its_path() {
        let files = Files::new("files");
        for variable in ["SSL_CA_LOCATION", "SSL_CERTIFICATE_LOCATION", "SSL_KEY_LOCATION", "SSL_CRL_LOCATION"] {
            let holds_none = if variable.contains("KEY") { "cert" } else { "key" };
            for (file, says) in [
                ("nowhere", "cannot be read"),
                ("empty", "is empty"),
                ("der", "in the form PEM"),
                (holds_none, "in the form PEM"),
                ("pipe", "not a regular file"),
                (".", "a directory"),
            ] {
                // A directory of authorities is allowed.
                if variable == "SSL_CA_LOCATION" && file == "." {
                    continue;
                }
                let told = files.read(&[(variable, file)], &[]).expect_err(variable).to_string();
                let path = if file == "nowhere" { String::new() } else { files.path(file) };
                let tells = [says, &format!("KAFKA__{variable}"), &path].iter().all(|words| told.contains(*words));
                assert!(tells && !told.contains('\n'), "{told}");
            }
        }
        files
            .read(&[("SSL_CA_LOCATION", "cert"), ("SSL_CERTIFICATE_LOCATION", "cert"), ("SSL_KEY_LOCATION", "key")], &[])
            .unwrap();
        files.read(&[("SSL_CA_LOCATION", ".")], &[]).unwrap();
    }

    #[test]
    fn a_key_in_the_place_of_its_path_is_not_shown() {
        let key = pem("PRIVATE KEY", "");
        let told = read(Role::Consumer, &[("SECURITY_PROTOCOL", "ssl"), ("SSL_KEY_LOCATION", &key)]).unwrap_err().to_string();
        assert!(told.contains("KAFKA__SSL_KEY_LOCATION") && !told.contains(BODY), "{told}");
    }

    #[test]
    fn an_encrypted_key_needs_its_password() {
        let files = Files::new("key");
        let said = "ssl.key.location failed: error:0A080009:SSL routines::PEM lib";
        for key in ["pkcs8", "traditional"] {
            let given = [("SSL_KEY_LOCATION", key)];
            let told = files.read(&given, &[]).unwrap_err().to_string();
            assert!(told.contains("KAFKA__SSL_KEY_PASSWORD") && told.contains(&files.path(key)), "{told}");
            let properties = files.read(&given, &[("SSL_KEY_PASSWORD", "hunter2")]).unwrap();
            let told = properties.no_client(said).unwrap().to_string();
            assert!(told.contains("check KAFKA__SSL_KEY_PASSWORD") && told.contains(&files.path(key)), "{told}");
            assert!(!told.contains("form PEM"), "{told}");
        }
        let pem = pem("ENCRYPTED PRIVATE KEY", "");
        let told = files.read(&[], &[("SSL_KEY_PEM", &pem)]).unwrap_err().to_string();
        assert!(told.contains("KAFKA__SSL_KEY_PASSWORD") && !told.contains(BODY), "{told}");
    }

    /// The words are those of librdkafka 2.12 with OpenSSL 3.
    #[test]
    fn what_makes_no_client_is_told_with_its_place_and_path() {
        let files = Files::new("client");
        let given = [("SSL_CERTIFICATE_LOCATION", "cert"), ("SSL_KEY_LOCATION", "key")];
        let properties = files.read(&given, &[("SSL_CIPHER_SUITES", "none")]).unwrap();
        for (said, variable, file, says) in [
            (
                "ssl.key.location failed: error:05800074:x509 certificate routines::key values mismatch",
                "SSL_KEY_LOCATION",
                "key",
                "is not the key of",
            ),
            ("ssl.key.location failed: error:0A080009:SSL routines::PEM lib", "SSL_KEY_LOCATION", "key", "form PEM"),
            ("Private key check failed: error:0A0000B1:SSL routines::", "SSL_KEY_LOCATION", "key", "to the key of"),
            (
                "ssl.certificate.location failed: error:0A00018F:SSL routines::ee key too small",
                "SSL_CERTIFICATE_LOCATION",
                "cert",
                "2048 bits",
            ),
            (
                "ssl.cipher.suites failed: error:0A0000B9:SSL routines::no cipher match",
                "SSL_CIPHER_SUITES",
                "",
                "no cipher match",
            ),
        ] {
            let told = properties.no_client(said).unwrap().to_string();
            let path = if file.is_empty() { String::new() } else { files.path(file) };
            assert!(told.contains(&format!("(set by KAFKA__{variable}): {path}")) && told.contains(says), "{told}");
        }
        assert!(properties.no_client("Failed to create thread: Resource temporarily unavailable (11)").is_none());
        assert_eq!(properties.no_client("no such thing").unwrap().to_string(), "Kafka client: no such thing");
    }
}

#[cfg(not(feature = "msk-iam"))]
#[test]
fn a_build_without_msk_iam_says_how_to_get_it() {
    for name in ["SASL_MECHANISMS", "SASL_MECHANISM", "sasl.mechanism"] {
        let told = read(Role::Consumer, &[("SECURITY_PROTOCOL", "SASL_SSL"), (name, "AWS_MSK_IAM")]).unwrap_err().to_string();
        assert!(told.contains(name) && told.contains("--features msk-iam") && !told.contains('\n'), "{told}");
    }
}

#[cfg(feature = "msk-iam")]
mod msk_iam {
    use super::*;

    const LOGIN: &[(&str, &str)] = &[("KAFKA__SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA__SASL_MECHANISMS", "AWS_MSK_IAM")];
    const SERVERLESS: &str = "boot-abc.c1.kafka-serverless.us-east-1.amazonaws.com:9098";

    fn read(bootstrap: &str, login: &[(&str, &str)], more: &[(&str, &str)]) -> Result<Properties, String> {
        let environment = login.iter().chain(more).map(|&(name, value)| (name.into(), value.into()));
        Properties::read(Role::Consumer, bootstrap, None, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn librdkafka_hears_oauthbearer_and_the_region_is_found() {
        let two = "b-1.name.abc123.c2.kafka.eu-west-1.amazonaws.com:9098,b-2.name.abc123.c2.kafka.eu-west-1.amazonaws.com:9098";
        let china = "alias:9098, b-1.name.abc123.c2.kafka.cn-north-1.amazonaws.com.cn:9098";
        for (bootstrap, more, region) in [
            (two, &[][..], "eu-west-1"),
            (SERVERLESS, &[], "us-east-1"),
            (china, &[], "cn-north-1"),
            (SERVERLESS, &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "")], "us-east-1"),
            (SERVERLESS, &[("AWS_DEFAULT_REGION", "eu-north-1")], "eu-north-1"),
            ("alias:9098", &[("AWS_DEFAULT_REGION", "eu-north-1"), ("AWS_REGION", "eu-west-2")], "eu-west-2"),
        ] {
            let properties = read(bootstrap, LOGIN, more).unwrap();
            assert_eq!(properties.msk_region(), Some(region), "{bootstrap}");
            let passed: Vec<_> = properties.iter().collect();
            assert_eq!(passed, [("sasl.mechanisms", "OAUTHBEARER"), ("security.protocol", "sasl_ssl")]);
        }
        let plain = [("KAFKA__SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA__SASL_MECHANISM", "PLAIN")];
        let properties = read(SERVERLESS, &plain, &[("KAFKA__SASL_USERNAME", "me"), ("KAFKA__SASL_PASSWORD", "p")]).unwrap();
        assert_eq!(properties.msk_region(), None);
    }

    #[test]
    fn a_file_and_the_name_of_java_s_clients_do_as_well() {
        let path = std::env::temp_dir().join(format!("tidemark-msk-{}", std::process::id()));
        std::fs::write(&path, "security.protocol=SASL_SSL\nsasl.mechanism=AWS_MSK_IAM\n").unwrap();
        let properties = Properties::read(Role::Producer, SERVERLESS, Some(&path), std::iter::empty()).unwrap();
        assert_eq!(properties.msk_region(), Some("us-east-1"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_does_not_belong_to_it_is_refused() {
        for (bootstrap, login, more, says) in [
            ("alias:9098", LOGIN, &[][..], "set AWS_REGION"),
            ("kafka.amazonaws.com:9098", LOGIN, &[], "set AWS_REGION"),
            (SERVERLESS, LOGIN, &[("AWS_REGION", "eu-west-1.example.org/hidden")], "AWS_REGION: allowed: a region"),
            (SERVERLESS, LOGIN, &[("KAFKA__SASL_USERNAME", "hidden")], "it has no effect with sasl.mechanisms=AWS_MSK_IAM"),
            (SERVERLESS, LOGIN, &[("KAFKA__SASL_PASSWORD", "hidden")], "it has no effect with sasl.mechanisms=AWS_MSK_IAM"),
            (
                SERVERLESS,
                LOGIN,
                &[("KAFKA__SASL_OAUTHBEARER_METHOD", "oidc")],
                "it has no effect with sasl.mechanisms=AWS_MSK_IAM",
            ),
            (SERVERLESS, &LOGIN[1..], &[], "set KAFKA__SECURITY_PROTOCOL to sasl_ssl"),
            (SERVERLESS, &LOGIN[1..], &[("KAFKA__SECURITY_PROTOCOL", "ssl")], "set KAFKA__SECURITY_PROTOCOL to sasl_ssl"),
            (SERVERLESS, &LOGIN[1..], &[("KAFKA__SECURITY_PROTOCOL", "sasl_plaintext")], "AWS_MSK_IAM needs sasl_ssl"),
        ] {
            let told = read(bootstrap, login, more).unwrap_err();
            assert!(told.contains(says) && !told.contains("hidden") && !told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn a_refusal_tells_what_to_do_at_aws() {
        let says = |told: &str| remedy(told).map(|remedy| (remedy.advice, remedy.lasting)).unwrap();
        let (advice, lasting) = says("Failed to acquire SASL OAUTHBEARER token: no AWS credentials were found");
        assert!(advice.contains("AWS_PROFILE") && !lasting, "{advice}");
        let (advice, lasting) = says("SASL authentication error: [e4afe53f]: Access denied (after 312ms in state AUTH_REQ)");
        assert!(advice.contains("kafka-cluster:Connect") && lasting, "{advice}");
        assert!(!says("SASL authentication error: [e4afe53f]: Too many connects").1);
    }
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
        let mut properties = Properties::default();
        properties.values.insert("sasl.password", secret.clone());
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
