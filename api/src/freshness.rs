//! How new an answer is, said in its headers, and answers that need not be computed again.
//!
//! An answer depends on the commit, on the question, and for questions about the last minutes on the clock; but windows are
//! whole minutes, so between two minutes of the store's clock and within one epoch only `server_time_utc` differs. That is why
//! entity tags are weak, and why an answer from memory gets the present time before it is sent. A tag names the run beside the epoch:
//! after a store went back, another run may reach the same epoch with other rows.

use crate::error::ApiError;
use crate::feed::Feed;
use crate::memory::{Clock, Key, Memory, Written};
use crate::params::Parameters;
use crate::rows::{Epoch, Moment, UtcTime};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// The commit that an answer tells of.
pub const EPOCH: HeaderName = HeaderName::from_static("x-tidemark-epoch");
/// The watermark of that commit.
pub const WATERMARK: HeaderName = HeaderName::from_static("x-tidemark-watermark");
/// What answers need besides the store.
#[derive(Clone)]
pub struct Freshness {
    /// Tells of commits.
    pub feed: Data<Feed>,
    /// Holds the answers of the newest one.
    pub memory: Data<Memory>,
    /// Longest wait for `min_epoch`.
    pub longest_wait: Duration,
}

impl Freshness {
    /// Answers from memory if nothing can have changed, else by `ask`. `question` is what was asked, in one form only.
    pub async fn answer<Asked>(
        &self,
        request: &HttpRequest,
        question: &impl Serialize,
        clock: Clock,
        ask: impl FnOnce() -> Asked,
    ) -> Result<HttpResponse, ApiError>
    where
        Asked: Future<Output = Result<Written, ApiError>>,
    {
        let question = serde_json::to_string(&(request.match_pattern(), question)).expect("questions always serialize");
        let wanted = self.wait(&Parameters::of(request.query_string())).await?;
        let known = self.feed.known().and_then(|known| Some((known.at, Key::new(&question, &known, clock)?)));
        let Some((at, key)) = known else {
            let written = ask().await?;
            wanted.is_in(&written.at)?;
            return Ok(respond(request, &question, clock, &written, written.at.now));
        };
        wanted.is_in(&at)?;
        if let Some(unchanged) = unchanged(request, &tag(&question, &at, clock), &at) {
            return Ok(unchanged);
        }
        let written: Arc<Written> = self.memory.get_or_ask(key, ask).await?;
        wanted.is_in(&written.at)?;
        Ok(respond(request, &question, clock, &written, at.now))
    }

    /// Waits for `min_epoch`, if the request has one. The store may go back afterwards, so the answer is looked at too.
    pub async fn wait(&self, parameters: &Parameters<'_>) -> Result<Wanted, ApiError> {
        let Some(epoch) = parameters.whole_number("min_epoch")?.map(Epoch) else { return Ok(Wanted(None)) };
        let reached = self.feed.wait_for(epoch, self.longest_wait).await;
        reached.map(|()| Wanted(Some(epoch))).map_err(|not_yet| ApiError::NotYet { wanted: epoch, has: not_yet.has })
    }
}

/// The commit that an answer must have, if the request named one.
#[must_use = "the answer may be of an earlier commit"]
pub struct Wanted(Option<Epoch>);

impl Wanted {
    /// Refuses an answer of an earlier commit.
    pub fn is_in(&self, at: &Moment) -> Result<(), ApiError> {
        match self.0 {
            // Before the first commit the store has epoch 0.
            Some(wanted) if at.epoch.unwrap_or(Epoch(0)) < wanted => Err(ApiError::NotYet { wanted, has: at.epoch }),
            _ => Ok(()),
        }
    }
}

fn respond(request: &HttpRequest, question: &str, clock: Clock, written: &Written, now: UtcTime) -> HttpResponse {
    let tag = tag(question, &written.at, clock);
    if let Some(unchanged) = unchanged(request, &tag, &written.at) {
        return unchanged;
    }
    let mut response = HttpResponse::Ok();
    describe(&mut response, &written.at, &tag);
    response.content_type("application/json").body(written.body(now))
}

/// The headers that tell how new an answer is.
pub fn tell_moment(response: &mut HttpResponseBuilder, at: &Moment) {
    let Some(Epoch(epoch)) = at.epoch else { return };
    response.insert_header((EPOCH, HeaderValue::from(epoch)));
    if let Some(UtcTime(watermark)) = at.watermark {
        response.insert_header((WATERMARK, watermark.to_string()));
    }
}

fn describe(response: &mut HttpResponseBuilder, at: &Moment, tag: &Option<String>) {
    tell_moment(response, at);
    // Kept, but asked for again each time: that is what the tag is for.
    response.insert_header((header::CACHE_CONTROL, "no-cache"));
    if let Some(tag) = tag {
        response.insert_header((header::ETAG, tag.as_str()));
    }
}

/// Names what is answered; none before the first commit.
fn tag(question: &str, at: &Moment, clock: Clock) -> Option<String> {
    let (Epoch(epoch), minute) = (at.epoch?, clock.minute(at));
    Some(format!("W/\"{:x}-{epoch}-{minute}-{:x}\"", at.life, crate::cursor::hash(&question)))
}

/// The answer to a client that has it already.
fn unchanged(request: &HttpRequest, tag: &Option<String>, at: &Moment) -> Option<HttpResponse> {
    let known = request.headers().get(header::IF_NONE_MATCH)?.to_str().ok()?;
    let strong = tag.as_ref()?.trim_start_matches("W/");
    let same = known.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == strong || one == "*");
    same.then(|| {
        let mut response = HttpResponse::NotModified();
        describe(&mut response, at, tag);
        response.finish()
    })
}
