//! TLS to a real Postgres: every `sslmode` with both programs, what is refused and in which words, and a certificate that expires.
//!
//! `cargo test --workspace` builds both programs.

mod support;

use rustix::process::Signal;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::ca::Ca;
use support::logs::{events, write_file_log};
use support::process::Process;
use support::tls_server::{ENCODED, PASSWORD, TlsServer, text};
use tidemark_model::file_log;

const TOPIC: &str = "tls.events";
const EVENTS: usize = 4_000;

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_tidemark-dataflow")).with_file_name(name)
}

fn dataflow(command: &str, dir: &Path, settings: &[(&str, String)]) -> Process {
    let topic = ("KAFKA_TOPIC", TOPIC.to_owned());
    let settings = [settings, &[topic, ("DATA_DIR", text(dir).to_owned()), ("HOME", "/nowhere".to_owned())]].concat();
    let args: &[&str] = match command {
        "run" => &["run", "--metrics-addr", "off"],
        "run to its end" => &["run", "--until-end"],
        command => &[command],
    };
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    Process::of_program(&program("tidemark-dataflow"), &args, &settings)
}

fn api(settings: &[(&str, String)]) -> Process {
    let settings = [settings, &[("API_ADDR", "127.0.0.1:0".to_owned()), ("HOME", "/nowhere".to_owned())]].concat();
    Process::of_program(&program("tidemark-api"), &[], &settings)
}

fn wait_for(process: &Process, word: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    while !process.said().contains(word) {
        assert!(Instant::now() < until, "it says {word:?}, and not: {}", process.said());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A log, and a fresh database for it.
fn database(server: &TlsServer, name: &str, events: &[support::logs::Event]) -> tempfile::TempDir {
    server.admin("postgres").batch_execute(&format!("create database {name}")).expect("it may");
    let dir = tempfile::tempdir().expect("a directory");
    write_file_log(&dir.path().join("log"), TOPIC, events);
    dir
}

/// More of the log.
fn append(dir: &Path, events: &[support::logs::Event]) {
    for event in events {
        let partition = i32::try_from(event.partition).expect("few");
        let path = file_log::partition_path(&dir.join("log"), TOPIC, partition);
        let mut line = Vec::new();
        file_log::write_line(event.time_ms.cast_unsigned(), &event.payload, &mut line).expect("no line end in it");
        let file = std::fs::OpenOptions::new().append(true).open(path);
        file.and_then(|mut file| file.write_all(&line)).expect("it takes more");
    }
}

/// The whole pipeline with these settings: its rows equal a recomputation, and every connection was with TLS, or without.
fn assert_works(server: &TlsServer, dir: &Path, name: &str, settings: &[(&str, String)], tls: bool) {
    for command in ["run to its end", "verify"] {
        let mut process = dataflow(command, dir, settings);
        let status = process.ends_within(Duration::from_secs(60)).expect("it ends");
        assert!(status.success(), "{name} {command}: {}", process.said());
    }
    let mut api = api(settings);
    wait_for(&api, "the store is up");
    api.signal(Signal::TERM);
    assert!(api.ends_within(Duration::from_secs(20)).expect("it ends").success(), "{name}: {}", api.said());
    let let_in = server.let_in(name);
    for program in ["tidemark-dataflow ", "tidemark-dataflow-command", "tidemark-api"] {
        let theirs: Vec<_> =
            let_in.iter().filter(|line| format!("{line} ").contains(&format!("application_name={program}"))).collect();
        assert!(!theirs.is_empty(), "{name}: {program} was let in: {let_in:#?}");
        assert!(theirs.iter().all(|line| line.contains("SSL enabled") == tls), "{name}, {program}: {theirs:#?}");
    }
}

/// It ends at once, and says so in one line that has these words and no secret, be it a password or what a key begins with.
fn assert_refused(of: &str, mut process: Process, status: i32, words: &[&str]) {
    let started = Instant::now();
    let ended = process.ends_within(Duration::from_secs(30));
    let said = process.said();
    let ended = ended.unwrap_or_else(|| panic!("{of} goes on: {said}"));
    assert!(started.elapsed() < Duration::from_secs(20), "{of}: {:?}", started.elapsed());
    let lines: Vec<_> = said.lines().filter(|line| line.contains("ERROR") || line.starts_with("tidemark-api: ")).collect();
    assert_eq!((ended.code(), lines.len()), (Some(status), 1), "{of}: {said}");
    assert!(words.iter().all(|word| lines[0].contains(word)), "{of}: {words:?} in {}", lines[0]);
    for secret in [PASSWORD, ENCODED, "wrong-password", "MIGHAgEA"] {
        assert!(!said.contains(secret), "{of}: {said}");
    }
    eprintln!("{of}: {}", lines[0]);
}

#[test]
fn both_programs_speak_tls_with_postgres() {
    let Some(server) = TlsServer::start() else { return };
    let events: Vec<_> = events().into_iter().take(EVENTS).collect();
    modes(&server, &events);
    unusual_certificates(&server, &events);
    refusals(&server, &events);
    renewal(&server, &events);
    failover(&server, &events);
}

fn modes(server: &TlsServer, events: &[support::logs::Event]) {
    let root = server.file("ca.crt", &server.ca.pem());
    let root = text(&root);
    let (cert, key) = server.ca.issue(&["mutual"], 30);
    let (cert, key) = (server.file("mutual.crt", &cert), server.file("mutual.key", &key));
    let (host, port) = server.address.split_once(':').expect("HOST:PORT");
    let url = |user: &str, name: &str| format!("postgres://{user}:{ENCODED}@{}/{name}", server.address);
    let set = |name: &'static str, value: &str| (name, value.to_owned());
    let one = |name: &str, user: &str, query: &str| vec![("DATABASE_URL", format!("{}{query}", url(user, name)))];
    let cases = [
        ("disable_", one("disable_", "either", "?sslmode=disable"), false),
        ("allow_", one("allow_", "either", "?sslmode=allow"), false),
        ("allow_tls", one("allow_tls", "secure", "?sslmode=allow"), true),
        ("prefer_", one("prefer_", "either", ""), true),
        ("prefer_plain", one("prefer_plain", "plain", "?sslmode=prefer"), false),
        // Pairs of libpq, an `options`, and channel binding demanded.
        (
            "require_",
            vec![(
                "DATABASE_URL",
                format!(
                    "host={host} port={port} dbname=require_ user=secure password='{PASSWORD}' sslmode=require channel_binding=require \
                     options='-c work_mem=5MB'"
                ),
            )],
            true,
        ),
        // No name is compared.
        ("verify_ca", one("verify_ca", "secure", &format!("?sslmode=verify-ca&sslrootcert={root}&hostaddr=127.0.0.1")), true),
        // By variables, with a certificate of the client's own.
        (
            "verify_full",
            vec![
                set("PG_HOST", host),
                set("PG_PORT", port),
                set("PG_DB", "verify_full"),
                set("PG_USER", "mutual"),
                set("PG_PASS", PASSWORD),
                set("PGSSLMODE", "verify-full"),
                set("PGSSLROOTCERT", root),
                set("PGSSLCERT", text(&cert)),
                set("PGSSLKEY", text(&key)),
                set("PGCHANNELBINDING", "require"),
            ],
            true,
        ),
        // By an address of IPv6, which stands in the certificate.
        (
            "ipv6",
            vec![(
                "DATABASE_URL",
                format!("postgres://secure:{ENCODED}@[::1]:{port}/ipv6?sslmode=verify-full&sslrootcert={root}"),
            )],
            true,
        ),
        // The CAs of this system, which are told by this variable here; and the second of two hosts.
        (
            "system_",
            vec![
                (
                    "DATABASE_URL",
                    format!("postgres://secure:{ENCODED}@localhost:1,{}/system_?sslrootcert=system", server.address),
                ),
                set("SSL_CERT_FILE", root),
                set("PGTARGETSESSIONATTRS", "read-write"),
            ],
            true,
        ),
    ];
    for (name, settings, tls) in &cases {
        let dir = database(server, name, events);
        assert_works(server, dir.path(), name, settings, *tls);
    }
}

/// Where nothing is verified, a certificate that cannot be verified is no reason to be without TLS.
fn unusual_certificates(server: &TlsServer, events: &[support::logs::Event]) {
    let (key, request, cert) = (server.file("k", ""), server.file("r", ""), server.file("c", ""));
    let (key, request, cert) = (text(&key), text(&request), text(&cert));
    let openssl = |args: &str| {
        let done = std::process::Command::new("openssl").args(args.split(' ')).output().expect("openssl is installed");
        assert!(done.status.success(), "{args}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let curve = |name: &str| format!("-newkey ec -pkeyopt ec_paramgen_curve:{name} -nodes -subj /CN=localhost -keyout {key}");
    for (name, version_1) in [("version_1", true), ("p521", false)] {
        if version_1 {
            openssl(&format!("req {} -out {request}", curve("P-256")));
            openssl(&format!("x509 -req -in {request} -signkey {key} -days 2 -out {cert}"));
        } else {
            openssl(&format!("req -x509 {} -days 2 -out {cert}", curve("P-521")));
        }
        let read = |path: &str| std::fs::read_to_string(path).expect("openssl wrote it");
        server.show(&(read(cert), read(key)));
        for mode in ["prefer", "require"] {
            let name = format!("{name}_{mode}");
            let dir = database(server, &name, events);
            let url = format!("postgres://either:{ENCODED}@{}/{name}?sslmode={mode}", server.address);
            assert_works(server, dir.path(), &name, &[("DATABASE_URL", url)], true);
        }
    }
    server.show_certificate_for(30);
}

fn refusals(server: &TlsServer, events: &[support::logs::Event]) {
    let dir = database(server, "refused", events);
    let root = server.file("ca.crt", &server.ca.pem());
    let stranger = Ca::new("another CA");
    let other = server.file("other.crt", &stranger.pem());
    let (cert, key) = server.ca.issue(&["mutual"], 30);
    let (cert, key) = (server.file("mutual.crt", &cert), server.file("mutual.key", &key));
    let (strange_cert, strange_key) = stranger.issue(&["mutual"], 30);
    let (strange_cert, strange_key) = (server.file("strange.crt", &strange_cert), server.file("strange.key", &strange_key));
    let open = server.file("open.key", &std::fs::read_to_string(&key).expect("it is there"));
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("it is ours");
    let not_pem = server.file("not.pem", "no certificate\n");
    let [root, other, cert, strange_cert, strange_key, open, not_pem] =
        [&root, &other, &cert, &strange_cert, &strange_key, &open, &not_pem].map(|path| text(path));
    let full = format!("sslmode=verify-full&sslrootcert={root}");
    // `statuses`: of the dataflow, and of the api if it ends too.
    let check = |of: &str, user: &str, host: &str, query: &str, words: &[&str], statuses: &[i32]| {
        let port = server.address.rsplit_once(':').expect("a port").1;
        let password = if of.contains("wrong password") { "wrong-password" } else { ENCODED };
        let settings = [("DATABASE_URL", format!("postgres://{user}:{password}@{host}:{port}/refused?{query}"))];
        assert_refused(&format!("{of}, dataflow"), dataflow("run", dir.path(), &settings), statuses[0], words);
        if let Some(&status) = statuses.get(1) {
            assert_refused(&format!("{of}, api"), api(&settings), status, words);
        }
    };
    // A server that refuses a login may come to accept it: the api waits, and says why.
    check("wrong password", "secure", "localhost", &full, &["28P01", "correct the user or the password"], &[1]);
    let wrong = format!("postgres://secure:wrong-password@{}/refused?{full}", server.address);
    let mut waiting = api(&[("DATABASE_URL", wrong)]);
    wait_for(&waiting, "correct the user or the password");
    assert!(!waiting.said().contains("wrong-password"), "{}", waiting.said());
    waiting.signal(Signal::TERM);
    assert!(waiting.ends_within(Duration::from_secs(20)).expect("it ends").success(), "{}", waiting.said());
    check("plain to hostssl", "secure", "localhost", "sslmode=disable", &["28000", "set sslmode=require"], &[1]);
    check("no client certificate", "mutual", "localhost", &full, &["28000", "set sslcert and sslkey"], &[1]);
    check(
        "wrong CA",
        "secure",
        "localhost",
        &format!("sslmode=require&sslrootcert={other}"),
        &["not signed by a CA in", other],
        &[1, 2],
    );
    check("wrong name", "secure", "127.0.0.1", &full, &["127.0.0.1", "is for localhost, ::1:"], &[1, 2]);
    let strange = format!("{full}&sslcert={strange_cert}&sslkey={strange_key}");
    check("a client's certificate of another CA", "mutual", "localhost", &strange, &["refuses the client certificate"], &[1, 2]);
    let mixed = format!("{full}&sslcert={cert}&sslkey={strange_key}");
    check(
        "key of another certificate",
        "mutual",
        "localhost",
        &mixed,
        &["sslkey", "not the key of the certificate", cert],
        &[2, 2],
    );
    let shared = format!("{full}&sslcert={cert}&sslkey={open}");
    check("key that all may read", "mutual", "localhost", &shared, &["sslkey", open, "chmod"], &[2, 2]);
    check(
        "no file",
        "secure",
        "localhost",
        "sslmode=verify-ca&sslrootcert=/nowhere/ca.crt",
        &["sslrootcert", "/nowhere/ca.crt"],
        &[2, 2],
    );
    check(
        "no PEM",
        "secure",
        "localhost",
        &format!("sslmode=verify-ca&sslrootcert={not_pem}"),
        &[not_pem, "no certificate"],
        &[2, 2],
    );
    check("no key", "secure", "localhost", &format!("{full}&sslcert={cert}&sslkey={not_pem}"), &[not_pem, "no key"], &[2, 2]);
    check(
        "unknown sslmode",
        "secure",
        "localhost",
        "sslmode=verify_full",
        &["allow, prefer, require, verify-ca, verify-full"],
        &[2, 2],
    );
    let direct = format!("{full}&sslnegotiation=direct");
    check("direct TLS with an old server", "secure", "localhost", &direct, &["sslnegotiation=direct needs Postgres 17"], &[1, 2]);
    check("no root", "secure", "localhost", "sslmode=verify-full", &["sslrootcert"], &[2, 2]);
    check("system without verify-full", "secure", "localhost", "sslmode=require&sslrootcert=system", &["verify-full"], &[2, 2]);
    server.show_certificate_for(-1);
    check("expired certificate", "secure", "localhost", &full, &["localhost", "has expired"], &[1, 2]);
    server.show_certificate_for(30);
    server.switch_tls("off");
    check("no TLS at the server", "either", "localhost", "sslmode=require", &["localhost does not offer TLS"], &[1, 2]);
    server.switch_tls("on");
}

/// The server's certificate expires while they run, and is renewed: both go on by themselves, and nothing is lost.
fn renewal(server: &TlsServer, events: &[support::logs::Event]) {
    let (first, second) = events.split_at(events.len() / 2);
    let dir = database(server, "renewal", first);
    let root = server.file("ca.crt", &server.ca.pem());
    let url = format!("postgres://secure:{ENCODED}@{}/renewal?sslmode=verify-full&sslrootcert={}", server.address, text(&root));
    let settings = [("DATABASE_URL", url)];
    let mut run = dataflow("run", dir.path(), &settings);
    let mut admin = server.admin("renewal");
    commits_after(0, &mut admin, &run);
    let mut api = api(&settings);
    wait_for(&api, "the store is up");
    server.show_certificate_for(-1);
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'secure'";
    admin.batch_execute(cut).expect("it may");
    wait_for(&run, "has expired");
    assert_eq!((run.ended(), api.ended()), (None, None), "{} {}", run.said(), api.said());
    append(dir.path(), second);
    let now: String = admin.query_one("select clock_timestamp()::text", &[]).expect("a time").get(0);
    server.show_certificate_for(30);
    let alive = format!("select exists (select from progress where heartbeat_at > '{now}')");
    let until = Instant::now() + Duration::from_secs(60);
    while !admin.query_one(&alive, &[]).expect("an answer").get::<_, bool>(0) {
        assert!(Instant::now() < until, "it goes on by itself: {}", run.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    end_and_verify(dir.path(), &settings, run, api);
}

/// The primary crashes for good and its standby is promoted: `target_session_attrs` leads both programs there by themselves.
fn failover(server: &TlsServer, events: &[support::logs::Event]) {
    let (first, second) = events.split_at(events.len() / 2);
    let dir = database(server, "failover", first);
    let root = server.file("ca.crt", &server.ca.pem());
    let standby = server.start_standby();
    let url = |hosts: &str, query: &str| {
        let url = format!("postgres://secure:{ENCODED}@{hosts}/failover?sslmode=verify-full&sslrootcert={}{query}", text(&root));
        [("DATABASE_URL", url)]
    };
    let both = url(&format!("{standby},{}", server.address), "&target_session_attrs=read-write");
    let run = dataflow("run", dir.path(), &both);
    commits_after(0, &mut server.admin("failover"), &run);
    let api_of_both = api(&both);
    wait_for(&api_of_both, "the store is up");
    let mut api_of_standby = api(&url(&standby, ""));
    wait_for(&api_of_standby, "the store is a standby");
    api_of_standby.signal(Signal::TERM);
    assert!(api_of_standby.ends_within(Duration::from_secs(20)).expect("it ends").success(), "{}", api_of_standby.said());
    let epoch = epoch(&mut server.admin("failover"));
    server.crash();
    wait_for(&run, "WARN");
    append(dir.path(), second);
    let mut promoted = TlsServer::admin_at(&standby, "failover");
    promoted.batch_execute("select pg_promote()").expect("it may");
    commits_after(epoch, &mut promoted, &run);
    end_and_verify(dir.path(), &both, run, api_of_both);
}

fn epoch(admin: &mut postgres::Client) -> i64 {
    let found = admin.query_opt("select epoch from progress", &[]);
    found.ok().flatten().map_or(0, |row| row.get(0))
}

fn commits_after(before: i64, admin: &mut postgres::Client, run: &Process) {
    let until = Instant::now() + Duration::from_secs(60);
    while epoch(admin) <= before {
        assert!(Instant::now() < until, "it commits: {}", run.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Both end when asked to, and the rows are right.
fn end_and_verify(dir: &Path, settings: &[(&str, String)], mut run: Process, mut api: Process) {
    run.signal(Signal::TERM);
    assert!(run.ends_within(Duration::from_secs(30)).expect("it ends").success(), "{}", run.said());
    api.signal(Signal::TERM);
    assert!(api.ends_within(Duration::from_secs(20)).expect("it ends").success(), "{}", api.said());
    let mut verify = dataflow("verify", dir, settings);
    assert!(verify.ends_within(Duration::from_secs(60)).expect("it ends").success(), "{}", verify.said());
}
