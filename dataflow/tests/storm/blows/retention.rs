//! Retention removes the beginning of the topic, as far as no start needs it.

use super::Blow;
use crate::TOPIC;
use crate::director::Director;
use crate::producer;
use std::collections::BTreeMap;
use tidemark_dataflow::checkpoint::history::old_enough;
use tidemark_model::Micros;

impl Director<'_> {
    /// Then all processes are killed, and checkpoints are lost.
    pub(super) fn expire(&mut self, blow: Blow) {
        self.mend(|director| director.recovered());
        match self.in_the_store(|client| needed(client, self.storm.rules.viewer_timeout_nanos())) {
            Err(error) => return self.wrong(format!("progress_history cannot be read: {error}")),
            Ok(None) => self.note("no start needs less than all records yet"),
            Ok(Some(below)) => {
                let brokers = &self.storm.services.brokers;
                producer::read_on(&brokers.addresses(), TOPIC, &mut self.expired, Some(&below));
                brokers.expire(TOPIC, &below);
                self.note(&format!("records expire below {below:?}"));
            }
        }
        self.lose_checkpoints(blow);
    }
}

/// The offsets from which a start without a checkpoint would replay. Without hours and days.
fn needed(client: &mut postgres::Client, viewer_timeout_nanos: i64) -> Result<Option<BTreeMap<i32, i64>>, postgres::Error> {
    let row = client.query_one("select (extract(epoch from watermark) * 1000000)::bigint from progress", &[])?;
    let old_enough = old_enough(row.get::<_, Option<i64>>(0).map(Micros), [None; 2], viewer_timeout_nanos, None);
    let select = "select key::int, (value ->> 'next_offset')::bigint from jsonb_each((
        select partitions from progress_history where highest is null or highest <= $1 order by watermark desc limit 1))";
    let offsets: BTreeMap<i32, i64> =
        client.query(select, &[&old_enough.0])?.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(Some(offsets).filter(|offsets| !offsets.is_empty()))
}
