//! From a checkpoint's parts to the commit that names it.

use super::Resume;
use crate::checkpoint::manifest::{ReadTo, VERSION};
use crate::checkpoint::schedule::Settled;
use crate::checkpoint::{Id, Increment, KEPT, Manifest, PartNotice};
use crate::flow::{PartitionMark, Request};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemark_model::metrics::Whole;
use tidemark_model::{Micros, Minute};

/// Collects the parts of the checkpoint that is being made.
pub(super) struct Publication {
    pipeline: u32,
    fence: i64,
    workers: usize,
    settled: Arc<Settled>,
    /// Where every partition stands.
    partitions: BTreeMap<i32, ReadTo>,
    /// Valid ones, newest first.
    valid: Vec<Manifest>,
    whole: Whole,
    /// The one that is being made, and the notices about it.
    making: Option<(Manifest, Vec<PartNotice>)>,
}

impl Publication {
    pub(super) fn new(resume: Resume) -> Publication {
        let mut publication = Publication {
            pipeline: resume.pipeline,
            fence: resume.fence,
            workers: resume.workers,
            settled: resume.settled,
            partitions: BTreeMap::new(),
            valid: resume.checkpoints,
            whole: resume.whole,
            making: None,
        };
        resume.partitions.iter().for_each(|mark| publication.stands(mark));
        publication
    }

    /// A partition stands there now.
    pub(super) fn stands(&mut self, mark: &PartitionMark) {
        self.partitions.insert(mark.partition, ReadTo { next_offset: mark.next_offset, highest: mark.highest });
    }

    /// Where every partition stands.
    pub(super) fn partitions(&self) -> &BTreeMap<i32, ReadTo> {
        &self.partitions
    }

    /// Where the checkpoint begins that is being made.
    pub(super) fn pending(&self) -> Option<&BTreeMap<i32, ReadTo>> {
        self.making.as_ref().map(|(manifest, _)| &manifest.partitions)
    }

    /// The state as of the slice that was just collected is being saved.
    pub(super) fn begin(&mut self, request: Request, watermark: Option<Micros>) {
        let id = Id { pipeline: self.pipeline, fence: self.fence, number: request.number };
        let valid = |id: Id| self.valid.iter().find(|manifest| manifest.id == id).expect("it is one of the newest two");
        let before = request.ids_since.map_or(&[][..], |id| &valid(id).increments);
        let first_open = watermark.map_or(Minute(0), Minute::first_open);
        let manifest = Manifest {
            version: VERSION,
            id,
            taken_at: request.taken_at,
            watermark,
            metrics: Manifest::metrics(&self.whole),
            rolled_up: self.whole.rolled_up,
            open: request.open,
            partitions: self.partitions.clone(),
            parts: Vec::new(),
            increments: before.iter().filter(|increment| increment.newest >= first_open).cloned().collect(),
        };
        self.making = Some((manifest, Vec::new()));
    }

    /// A worker gave notice. With the last one, the checkpoints that are valid from the next commit on.
    pub(super) fn part(&mut self, notice: PartNotice) -> Option<Vec<Manifest>> {
        let (_, notices) = self.making.as_mut().filter(|(manifest, _)| manifest.id.number == notice.number)?;
        notices.push(notice);
        if notices.len() < self.workers {
            return None;
        }
        let (mut manifest, mut notices) = self.making.take().expect("it was just looked at");
        notices.sort_by_key(|notice| notice.worker);
        match notices.into_iter().map(|notice| notice.outcome).collect::<Result<Vec<_>, String>>() {
            Ok(parts) => {
                manifest.parts = parts.iter().map(|written| written.state).collect();
                // Without an open window there are no ids.
                if let Some(&newest) = manifest.open.last() {
                    let parts = parts.iter().map(|written| written.ids).collect();
                    manifest.increments.push(Increment { id: manifest.id, newest, parts });
                }
                self.valid.insert(0, manifest);
                self.valid.truncate(KEPT);
                Some(self.valid.clone())
            }
            Err(error) => {
                tracing::warn!(error, "a checkpoint could not be written; the next one is tried in its time");
                self.settled.settle(manifest.id.number);
                None
            }
        }
    }
}
