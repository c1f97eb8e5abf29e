use super::*;

#[test]
fn parts_make_a_connection_string_with_the_replaced_system_s_defaults() {
    let args = StoreArgs { pg_host: Some("db".into()), pg_pass: Some("it's".into()), ..StoreArgs::default() };
    let store = args.resolve(Path::new("d")).unwrap();
    let expected = "host='db' port=5432 dbname='realtime' user='postgres' password='it\\'s'";
    let Store::Postgres { connection, .. } = &store else { panic!("{store}") };
    assert_eq!(connection, expected);
    assert!(!store.to_string().contains("it"), "{store}");
}

#[test]
fn nothing_set_is_sqlite_and_passwords_are_not_shown() {
    assert_eq!(StoreArgs::default().resolve(Path::new("d")).unwrap(), Store::Sqlite("d/tidemark.db".into()));
    let url = "postgres://me:secret@host:1/db?sslmode=disable".to_owned();
    let args = StoreArgs { database_url: Some(url), ..StoreArgs::default() };
    assert_eq!(args.resolve(Path::new("d")).unwrap().to_string(), "Postgres host:1/db");
}

#[test]
fn urls_that_differ_are_refused() {
    let args = StoreArgs { database_url: Some("host=a".into()), pg_url: Some("host=b".into()), ..StoreArgs::default() };
    assert!(args.resolve(Path::new("d")).is_err());
}

fn resolved(url: &str) -> Result<Store, SettingsError> {
    StoreArgs { database_url: Some(url.to_owned()), ..StoreArgs::default() }.resolve(Path::new("d"))
}

#[test]
fn a_url_is_shown_by_its_hosts_and_database() {
    for (url, shown) in [
        ("postgres://me:secret@host:1/db?sslmode=disable", "host:1/db"),
        ("postgres://me:sec/ret@host/db", "host/db"),
        ("postgres://me:what?@host/db", "host/db"),
        ("postgresql://host/db?user=me&password=secret", "host/db"),
        ("postgres://me@[::1]:5433,b:5432/db", "[::1]:5433,b:5432/db"),
        ("postgres://me:x@%2Frun%2Fpostgresql/db", "%2Frun%2Fpostgresql/db"),
        ("postgres:///db?host=/run/postgresql", "/db"),
        ("postgres://me:x@%2Fcloudsql%2Fproject%3Aregion%3Ainstance/db", "%2Fcloudsql%2Fproject%3Aregion%3Ainstance/db"),
        ("host=/run/postgresql password='a b' user=me", "of DATABASE_URL"),
    ] {
        assert_eq!(resolved(url).unwrap().to_string(), format!("Postgres {shown}"), "{url}");
    }
}

#[test]
fn a_url_whose_password_is_elsewhere_than_the_client_looks_is_refused() {
    for url in [
        "postgres://me:se@cret@host/db",
        "postgres://host/db?user=me&password=se@cret",
        "postgres://me:secret@host/db?application_name=a@b",
        "postgres://me:secret",
        "postgres://me:secret/db",
        "mysql://me:secret@host/db",
        "me:secret@host",
    ] {
        let told = resolved(url).expect_err(url).to_string();
        assert!(told.starts_with("DATABASE_URL: ") && !told.contains("cret") && !told.contains("se@"), "{told}");
    }
}

#[test]
fn a_secret_in_the_wrong_variable_is_not_told() {
    let secret = "hunter2/of the day";
    let cases = [
        StoreArgs { database_url_file: Some(secret.into()), ..StoreArgs::default() },
        StoreArgs { pg_host: Some("h".into()), pg_pass_file: Some(secret.into()), ..StoreArgs::default() },
        StoreArgs { pg_host: Some(format!("postgres://me:{secret}@h")), ..StoreArgs::default() },
        StoreArgs { pg_host: Some("h".into()), pg_pass: Some(secret.into()), pg_port: Some("0".into()), ..StoreArgs::default() },
    ];
    for args in cases {
        let error = args.resolve(Path::new("d")).unwrap_err();
        assert!(!format!("{error} {error:?} {args:?}").contains("hunter2"), "{error}");
    }
}

/// Secrets of all printable characters, as they are and percent-encoded, in each place of a connection string.
#[test]
fn no_password_is_ever_shown() {
    let alphabet: Vec<char> = ('!'..='~').chain("äß密".chars()).collect();
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..20_000 {
        let nasty = ["@", ":", "/", "?", "#", "&", "=", "%", " ", "'", "\\", ",", "]"];
        let nasty = nasty[next(nasty.len())];
        // Both halves begin and end with a letter of their own, so that a half that is shown is noticed.
        let mut half = |mark: &str| {
            let inner: String = (0..next(6)).map(|_| alphabet[next(alphabet.len())]).collect();
            format!("{mark}Q{inner}Q{mark}")
        };
        let secret = format!("{}{nasty}{}", half("ZX"), half("XZ"));
        for url in [
            format!("postgres://me:{secret}@host:5432/db"),
            format!("postgres://me:{secret}@host:5432/db?sslmode=disable"),
            format!("postgres://host/db?user=me&password={secret}"),
            format!("postgres://host/db?password={secret}&user=me"),
            format!("host=h password={secret} user=me"),
            format!("host=h user=me password='{secret}'"),
            format!("postgres:/me:{secret}@host"),
            secret.clone(),
            // The host is missing. With an @ in the password it cannot be told from a URL that has one.
            format!("postgresql://me:{}", secret.replace('@', "")),
        ] {
            let told = match resolved(&url) {
                Ok(store) => format!("{store} {store:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!told.contains("ZX") && !told.contains("XZ"), "{url} is told as {told}");
        }
    }
}

#[test]
fn an_empty_option_does_not_switch_off_what_a_variable_demands() {
    let args = StoreArgs {
        database_url: Some("postgres://me:x@host/db?sslmode=".to_owned()),
        sslmode: Some("verify-full".to_owned()),
        sslrootcert: Some("system".to_owned()),
        ..StoreArgs::default()
    };
    let Store::Postgres { connection, .. } = args.resolve(Path::new("d")).unwrap() else { panic!("a server") };
    assert_eq!(ssl::take_out(&connection).unwrap().1.mode, ssl::SslMode::VerifyFull);
}
