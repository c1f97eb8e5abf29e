//! A rule for each property of librdkafka 2.12. A test of the dataflow compares the names with those of the library that is linked.

use super::Role;
use Rule::{Brokers, Free, Never, Only, Secret, Within};
use Side::{Both, Consumer, Producer};

/// The mechanism by which Java's clients log in to Amazon MSK. librdkafka does not know it: [`Properties::read`] makes it OAUTHBEARER.
///
/// [`Properties::read`]: super::Properties::read
pub const AWS_MSK_IAM: &str = "AWS_MSK_IAM";

/// What the user may do with a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Set it to what librdkafka takes.
    Free,
    /// The same, and its value is cut out of all that librdkafka says.
    Secret,
    /// It names the brokers, for which there is a setting.
    Brokers,
    /// Set it to one of these values, for this reason.
    Only(&'static [&'static str], &'static str),
    /// Set it to a whole number from the first to the second, for this reason.
    Within(i64, i64, &'static str),
    /// Not set it, for this reason.
    Never(&'static str),
}

/// Which clients a property is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Consumers and producers.
    Both,
    /// Consumers.
    Consumer,
    /// Producers.
    Producer,
}

impl Side {
    pub(super) fn is_for(self, role: Role) -> bool {
        match self {
            Both => true,
            Consumer => role == Role::Consumer,
            Producer => role == Role::Producer,
        }
    }
}

/// A property.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The name that our own settings use: an alias is another name of one property, and only one of them may reach librdkafka.
    pub name: &'static str,
    /// Which clients it is for.
    pub side: Side,
    /// What the user may do with it.
    pub rule: Rule,
}

/// The property of this name.
pub fn find(name: &str) -> Option<Known> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |&(_, name)| name);
    let ruled = RULES.iter().find(|(known, ..)| *known == name).map(|&(name, side, rule)| Known { name, side, rule });
    let free = || {
        FREE.iter().find_map(|(side, names)| {
            names.iter().find(|known| **known == name).map(|&name| Known { name, side: *side, rule: Free })
        })
    };
    ruled.or_else(free)
}

/// The property that a variable `KAFKA__NAME` means: NAME is its own name, or that in capitals with `_` for each dot.
pub fn meant_by(name: &str) -> Option<Known> {
    find(name).or_else(|| names().find(|known| in_capitals(known) == name).and_then(find))
}

/// A name in the form that a shell takes.
pub fn in_capitals(name: &str) -> String {
    name.to_ascii_uppercase().replace('.', "_")
}

/// All names, aliases included.
pub fn names() -> impl Iterator<Item = &'static str> {
    let free = FREE.iter().flat_map(|(_, names)| names.iter().copied());
    RULES.iter().map(|(name, ..)| *name).chain(free).chain(ALIASES.iter().map(|(alias, _)| *alias))
}

/// The property whose name is most like this one, if any is like it.
pub fn nearest(name: &str) -> Option<&'static str> {
    let likeness = |known: &&str| strsim::normalized_levenshtein(name, known);
    let nearest = names().max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(&nearest) >= 0.5).then_some(nearest)
}

const IN_STORE: &str = "offsets are committed with the rows, in the store; the group's are for tools that show lag";
const OUTAGE: &str = "the pipeline must be back within a minute after an outage";
const SILENT: &str = "a broker that does not answer must be noticed within a minute";
const CALLBACK: &str = "a text cannot set it";
const LOADS_CODE: &str = "it loads code that could change records";
const OLD_BROKERS: &str = "the protocol of brokers before 0.10 has no transactions, and aborted records would count";
const ACKNOWLEDGED: &str = "a record counts as delivered only once all replicas have it, once and in order";
const NO_GROUP: &str = "partitions are assigned by the pipeline itself, which joins no group";

const RULES: &[(&str, Side, Rule)] = &[
    ("bootstrap.servers", Both, Brokers),
    // What is read, and how far.
    (
        "auto.offset.reset",
        Consumer,
        Only(&["error"], "records that have expired before they were read would be skipped in silence"),
    ),
    ("isolation.level", Consumer, Only(&["read_committed"], "records of aborted transactions would count")),
    (
        "enable.partition.eof",
        Consumer,
        Only(&["true"], "the end of a partition would not be noticed, and --until-end would not end"),
    ),
    ("enable.auto.commit", Consumer, Only(&["false"], IN_STORE)),
    ("auto.commit.enable", Consumer, Only(&["false"], IN_STORE)),
    ("enable.auto.offset.store", Consumer, Only(&["false"], IN_STORE)),
    ("offset.store.method", Consumer, Only(&["broker", "none"], IN_STORE)),
    ("group.protocol", Consumer, Only(&["classic"], NO_GROUP)),
    ("fetch.wait.max.ms", Consumer, Within(0, 10_000, "records and the end of a partition would be seen later than this")),
    ("fetch.queue.backoff.ms", Consumer, Within(0, 1_000, "reading would stand still for this long whenever the queue was full")),
    ("fetch.error.backoff.ms", Consumer, Within(0, 60_000, OUTAGE)),
    (
        "receive.message.max.bytes",
        Both,
        Within(100_000_000, 2_147_483_647, "a larger answer of a broker would stop the partition for good"),
    ),
    // What the client knows of the topic.
    ("topic.blacklist", Both, Only(&[""], "it hides topics from the client, also the one that is read")),
    ("allow.auto.create.topics", Both, Only(&["false"], "a mistyped topic must be an error and not a new topic")),
    (
        "topic.metadata.refresh.interval.ms",
        Both,
        Within(1_000, 300_000, "partitions whose leader has changed must be found again"),
    ),
    (
        "metadata.max.age.ms",
        Both,
        Within(30_000, 86_400_000, "what is known of the topic must not expire before it is asked for again"),
    ),
    ("api.version.request", Both, Only(&["true"], OLD_BROKERS)),
    ("api.version.request.timeout.ms", Both, Within(1_000, 60_000, SILENT)),
    ("api.version.fallback.ms", Both, Only(&["0"], OLD_BROKERS)),
    ("broker.version.fallback", Both, Only(&["0.10.0"], OLD_BROKERS)),
    // How soon trouble is noticed, and how soon it is over.
    ("socket.timeout.ms", Both, Within(1_000, 60_000, SILENT)),
    ("socket.connection.setup.timeout.ms", Both, Within(1_000, 60_000, SILENT)),
    ("socket.max.fails", Both, Within(1, 10, SILENT)),
    ("reconnect.backoff.ms", Both, Within(0, 60_000, OUTAGE)),
    ("reconnect.backoff.max.ms", Both, Within(0, 60_000, OUTAGE)),
    ("retry.backoff.ms", Both, Within(1, 60_000, OUTAGE)),
    ("retry.backoff.max.ms", Both, Within(1, 60_000, OUTAGE)),
    // What is written.
    ("acks", Producer, Only(&["all", "-1"], ACKNOWLEDGED)),
    ("enable.idempotence", Producer, Only(&["true"], ACKNOWLEDGED)),
    ("queuing.strategy", Producer, Only(&["fifo"], ACKNOWLEDGED)),
    ("delivery.report.only.error", Producer, Only(&["false"], "deliveries that are not reported cannot be counted")),
    ("transactional.id", Producer, Never("no transaction is begun, so every record would fail")),
    (
        "message.timeout.ms",
        Producer,
        Within(1_000, 120_000, "a record that no broker takes must be given up before the run is, after 150 s"),
    ),
    ("queue.buffering.max.messages", Producer, Within(1, 10_000_000, "the queue must have a bound")),
    (
        "partitioner",
        Producer,
        Only(
            &["murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a"],
            "records of one key must stay in one partition",
        ),
    ),
    // How it gets in.
    ("security.protocol", Both, Only(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"], "Kafka has no others")),
    (
        "sasl.mechanisms",
        Both,
        Only(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", AWS_MSK_IAM], "no others are built in"),
    ),
    // What the client does with the process.
    ("plugin.library.paths", Both, Never(LOADS_CODE)),
    ("ssl.engine.location", Both, Never(LOADS_CODE)),
    ("ssl.engine.id", Both, Never(LOADS_CODE)),
    ("internal.termination.signal", Both, Only(&["0"], "signals end the program")),
    ("log.queue", Both, Only(&["false"], "log lines would wait in a queue that nobody reads")),
    ("enabled_events", Both, Never("the program sets it itself")),
    ("builtin.features", Both, Never("it only tells what is built in")),
    // Secrets.
    ("ssl.key.password", Both, Secret),
    ("ssl.key.pem", Both, Secret),
    ("ssl.keystore.password", Both, Secret),
    ("sasl.password", Both, Secret),
    ("sasl.kerberos.kinit.cmd", Both, Secret),
    ("sasl.oauthbearer.config", Both, Secret),
    ("sasl.oauthbearer.client.secret", Both, Secret),
    ("sasl.oauthbearer.extensions", Both, Secret),
    ("sasl.oauthbearer.token.endpoint.url", Both, Secret),
    ("sasl.oauthbearer.assertion.private.key.passphrase", Both, Secret),
    ("sasl.oauthbearer.assertion.private.key.pem", Both, Secret),
    // Set by calls only.
    ("error_cb", Both, Never(CALLBACK)),
    ("throttle_cb", Both, Never(CALLBACK)),
    ("stats_cb", Both, Never(CALLBACK)),
    ("log_cb", Both, Never(CALLBACK)),
    ("background_event_cb", Both, Never(CALLBACK)),
    ("socket_cb", Both, Never(CALLBACK)),
    ("connect_cb", Both, Never(CALLBACK)),
    ("closesocket_cb", Both, Never(CALLBACK)),
    ("open_cb", Both, Never(CALLBACK)),
    ("resolve_cb", Both, Never(CALLBACK)),
    ("opaque", Both, Never(CALLBACK)),
    ("default_topic_conf", Both, Never(CALLBACK)),
    ("ssl_key", Both, Never(CALLBACK)),
    ("ssl_certificate", Both, Never(CALLBACK)),
    ("ssl_ca", Both, Never(CALLBACK)),
    ("ssl_engine_callback_data", Both, Never(CALLBACK)),
    ("ssl.certificate.verify_cb", Both, Never(CALLBACK)),
    ("oauthbearer_token_refresh_cb", Both, Never(CALLBACK)),
    ("interceptors", Both, Never(CALLBACK)),
    ("consume_cb", Consumer, Never(CALLBACK)),
    ("rebalance_cb", Consumer, Never(CALLBACK)),
    ("offset_commit_cb", Consumer, Never(CALLBACK)),
    ("dr_cb", Producer, Never(CALLBACK)),
    ("dr_msg_cb", Producer, Never(CALLBACK)),
    ("partitioner_cb", Producer, Never(CALLBACK)),
    ("msg_order_cmp", Producer, Never(CALLBACK)),
];

/// Nothing that is promised rests on these. Those of the group have no effect, because no group is joined; its id is for lag tools.
#[rustfmt::skip]
const FREE: &[(Side, &[&str])] = &[
    (Both, &[
        "client.id", "client.rack", "client.dns.lookup", "message.max.bytes", "message.copy.max.bytes",
        "max.in.flight.requests.per.connection", "metadata.recovery.strategy", "metadata.recovery.rebootstrap.trigger.ms",
        "topic.metadata.refresh.fast.interval.ms", "topic.metadata.refresh.fast.cnt", "topic.metadata.refresh.sparse",
        "topic.metadata.propagation.max.ms", "debug", "socket.blocking.max.ms", "socket.send.buffer.bytes",
        "socket.receive.buffer.bytes", "socket.keepalive.enable", "socket.nagle.disable", "broker.address.ttl",
        "broker.address.family", "connections.max.idle.ms", "reconnect.backoff.jitter.ms", "statistics.interval.ms", "log_level",
        "log.thread.name", "log.connection.close", "enable.random.seed", "enable.metrics.push",
        "ssl.cipher.suites", "ssl.curves.list", "ssl.sigalgs.list", "ssl.key.location", "ssl.certificate.location",
        "ssl.certificate.pem", "ssl.ca.location", "https.ca.location", "https.ca.pem", "ssl.ca.pem", "ssl.ca.certificate.stores",
        "ssl.crl.location", "ssl.keystore.location", "ssl.providers", "enable.ssl.certificate.verification",
        "ssl.endpoint.identification.algorithm", "sasl.kerberos.service.name", "sasl.kerberos.principal",
        "sasl.kerberos.keytab", "sasl.kerberos.min.time.before.relogin", "sasl.username", "enable.sasl.oauthbearer.unsecure.jwt",
        "sasl.oauthbearer.method", "sasl.oauthbearer.client.id", "sasl.oauthbearer.scope", "sasl.oauthbearer.grant.type",
        "sasl.oauthbearer.assertion.algorithm", "sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.file",
        "sasl.oauthbearer.assertion.claim.aud", "sasl.oauthbearer.assertion.claim.exp.seconds",
        "sasl.oauthbearer.assertion.claim.iss", "sasl.oauthbearer.assertion.claim.jti.include",
        "sasl.oauthbearer.assertion.claim.nbf.seconds", "sasl.oauthbearer.assertion.claim.sub",
        "sasl.oauthbearer.assertion.jwt.template.file", "sasl.oauthbearer.metadata.authentication.type",
    ]),
    (Consumer, &[
        "group.id", "group.instance.id", "partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms",
        "group.protocol.type", "group.remote.assignor", "coordinator.query.interval.ms", "max.poll.interval.ms",
        "auto.commit.interval.ms", "queued.min.messages", "queued.max.messages.kbytes", "fetch.message.max.bytes", "fetch.max.bytes",
        "fetch.min.bytes", "check.crcs", "offset.store.path", "offset.store.sync.interval.ms", "consume.callback.max.messages",
    ]),
    (Producer, &[
        "transaction.timeout.ms", "enable.gapless.guarantee", "queue.buffering.max.kbytes", "linger.ms", "message.send.max.retries",
        "queue.buffering.backpressure.threshold", "compression.type", "compression.level", "batch.num.messages", "batch.size",
        "sticky.partitioning.linger.ms", "request.timeout.ms", "produce.offset.report",
    ]),
];

const ALIASES: &[(&str, &str)] = &[
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("retries", "message.send.max.retries"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
];
