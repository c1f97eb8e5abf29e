//! `/live`: changed rows as server-sent events.
//!
//! An answer is either catching up, by pages of its own, or live, by what the one reader tells everybody. Values are absolute
//! and a later one is never older, so a row that comes twice does no harm; what matters is that none is left out. A client's
//! position moves to an epoch only with the event that has its number as id, and everything until then has been sent.

use crate::error::ApiError;
use crate::feed::{Feed, Item, Page, event};
use crate::freshness::tell_moment;
use crate::params::{BadParameter, Parameters};
use crate::queries::{ChangesQuery, PAGE_ROWS, Store, StoreError};
use crate::rows::{Epoch, Moment};
use crate::windows::Recent;
use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use std::convert::Infallible;
use std::time::Duration;
use tidemark_model::{Grain, Micros};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout};

/// Longest silence: proxies end answers that say nothing.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A client of some streams hears at least this often how far the pipeline is, while commits change other streams only.
const PROGRESS: Duration = Duration::from_secs(1);
/// Pause before the store is asked again.
const RETRY: Duration = Duration::from_secs(1);
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// Most live clients at once.
#[derive(Clone, Copy, Debug)]
pub struct LiveLimit(pub usize);

/// Changed rows, for ever.
#[utoipa::path(
    get,
    path = "/live",
    params(
        ("stream_id" = Option<Vec<String>>, Query, description = "Of these streams only (repeat it, at most 100 times); empty is no filter"),
        Recent<10>,
        ("Last-Event-ID" = Option<String>, Header, description = "Resume behind this event of windows of the same length: its id, or its epoch")
    ),
    responses(
        (status = 200, description = "Events: `rows` with epoch, watermark and changed rows (the last one of a commit has an id that begins with its epoch), `reset` before a full picture (the rows that are asked for, and all that are not final), also when the store went back or another run writes, `slow` when some were left out, of which the newest values follow", body = String, content_type = "text/event-stream")
    )
)]
pub async fn live(
    store: Data<Store>,
    feed: Data<Feed>,
    limit: Data<LiveLimit>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let parameters = Parameters::of(request.query_string());
    let (streams, (grain, minutes)) = (parameters.stream_ids()?, Recent::<10>::read(&parameters)?);
    let last_event = last_event_id(&request)?;
    if feed.clients() >= limit.0 {
        return Err(ApiError::Busy("there are as many live clients as are allowed"));
    }
    // Subscribed first: whatever is told during the first query is not missed.
    let (items, stopping) = (feed.subscribe(grain), feed.stopping());
    let at = store.moment().await?;
    let resumed = last_event.filter(|event| Some(event.epoch) <= at.epoch && event.life.is_none_or(|life| life == at.life));
    let resumed = resumed.and_then(|event| Some((event.epoch, feed.starts_after(event.epoch)?)));
    let (reset, catching_up) = match resumed {
        Some((epoch, starts_after)) => (false, CatchUp::changes(grain, epoch, at.life, starts_after)),
        None => (true, CatchUp::picture(grain, &at, minutes)),
    };
    let mut client = Client {
        store,
        feed,
        items,
        stopping,
        streams,
        grain,
        minutes,
        position: None,
        catching_up: Some(catching_up),
        sent: Instant::now(),
    };
    // The first page is asked for before the answer begins, so that a store out of reach is a 503.
    let first = client.catch_up().await?;
    let first = if reset { [reset_event(&at), first].concat().into() } else { first };
    let events = stream::unfold((client, Some(first)), |(mut client, first)| async move {
        let event = match first {
            Some(first) => Some(first),
            None => client.next().await,
        };
        event.map(|event| (Ok::<_, Infallible>(event), (client, None)))
    });
    let mut response = HttpResponse::Ok();
    response.content_type("text/event-stream").insert_header((header::CACHE_CONTROL, "no-store"));
    tell_moment(&mut response, &at);
    // An encoder would keep events back until it has enough of them; so would some proxies.
    response.insert_header((header::CONTENT_ENCODING, "identity")).insert_header(("x-accel-buffering", "no"));
    Ok(response.streaming(events))
}

/// The last event that a client has seen.
struct LastEvent {
    epoch: Epoch,
    /// None from a client that kept the epoch only.
    life: Option<u64>,
}

impl LastEvent {
    /// Reads `EPOCH-LIFE` or `EPOCH`.
    fn read(text: &str) -> Option<LastEvent> {
        let (epoch, life) = text.split_once('-').map_or((text, None), |(epoch, life)| (epoch, Some(life)));
        let decimal = epoch.bytes().all(|byte| byte.is_ascii_digit());
        let epoch = Epoch(epoch.parse().ok().filter(|_| decimal)?);
        let Some(life) = life else { return Some(LastEvent { epoch, life: None }) };
        let hexadecimal = life.len() == 16 && life.bytes().all(|byte| byte.is_ascii_hexdigit());
        let life = u64::from_str_radix(life, 16).ok().filter(|_| hexadecimal)?;
        Some(LastEvent { epoch, life: Some(life) })
    }
}

fn last_event_id(request: &HttpRequest) -> Result<Option<LastEvent>, BadParameter> {
    let Some(value) = request.headers().get("last-event-id") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let bad = || BadParameter::new("Last-Event-ID", &text, "the id of an event of /live, as in 42-0123456789abcdef".to_owned());
    LastEvent::read(&text).map(Some).ok_or_else(bad)
}

/// One client of `/live`.
struct Client {
    store: Data<Store>,
    feed: Data<Feed>,
    items: broadcast::Receiver<Item>,
    stopping: watch::Receiver<bool>,
    streams: Vec<String>,
    grain: Grain,
    minutes: u32,
    /// Everything until here has been sent.
    position: Option<Position>,
    catching_up: Option<CatchUp>,
    /// When the last event was.
    sent: Instant,
}

/// How far a client is.
struct Position {
    at: Moment,
    /// It has been told all pages so far of those that lead on from here.
    complete: bool,
}

/// A query, page by page. Later pages may be of later commits; the position is the first page's.
struct CatchUp {
    query: ChangesQuery,
    /// The life of the tables in which `query.since` has its meaning.
    life: Option<u64>,
    to: Option<Moment>,
}

impl CatchUp {
    fn changes(grain: Grain, since: Epoch, life: u64, starts_after: Option<Micros>) -> CatchUp {
        CatchUp { query: ChangesQuery::changes(grain, Some(since), starts_after), life: Some(life), to: None }
    }

    /// All rows that can still change, and those of the last minutes.
    fn picture(grain: Grain, at: &Moment, minutes: u32) -> CatchUp {
        let mut query = ChangesQuery::changes(grain, None, at.changes_start_after());
        let recent = at.now.plus_seconds(-60 * i64::from(minutes)).0;
        query.starts_after = query.starts_after.map(|start| start.min(recent));
        CatchUp { query, life: None, to: None }
    }

    /// Whether the store went back, or another run took over, since the beginning of what is caught up with.
    fn is_void(&self, at: &Moment) -> bool {
        let life = self.to.map(|to| to.life).or(self.life);
        life.is_some_and(|life| life != at.life) || at.epoch < self.to.and_then(|to| to.epoch).max(self.query.since)
    }
}

fn reset_event(at: &Moment) -> Bytes {
    let epoch = at.epoch.map_or(serde_json::Value::Null, |Epoch(epoch)| epoch.into());
    format!("event: reset\ndata: {{\"epoch\":{epoch}}}\n\n").into()
}

impl Client {
    /// The next event or comment; none when the service stops.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if *self.stopping.borrow() {
                return None;
            }
            if self.catching_up.is_some() {
                match self.catch_up().await {
                    Ok(event) => return self.send(event),
                    Err(error) => error.log_quietly(),
                }
                tokio::time::sleep(RETRY).await;
                return self.send(COMMENT);
            }
            let item = tokio::select! {
                _ = self.stopping.changed() => return None,
                item = timeout(HEARTBEAT.saturating_sub(self.sent.elapsed()), self.items.recv()) => item,
            };
            let event = match item {
                Err(_) => Some(COMMENT),
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Err(RecvError::Lagged(pages))) => Some(self.fell_behind(pages)),
                Ok(Ok(Item::Anew)) => Some(self.start_anew().await),
                Ok(Ok(Item::Page(page))) => self.page(&page).await,
            };
            if let Some(event) = event {
                return self.send(event);
            }
        }
    }

    fn send(&mut self, event: Bytes) -> Option<Bytes> {
        self.sent = Instant::now();
        Some(event)
    }

    /// The next page of a query of its own. A page that failed is asked for again by the next call.
    async fn catch_up(&mut self) -> Result<Bytes, StoreError> {
        let Some(catching_up) = &mut self.catching_up else { return Ok(COMMENT) };
        catching_up.query.streams.clone_from(&self.streams);
        let answer = self.store.changes(&catching_up.query).await?;
        if catching_up.is_void(&answer.at) {
            return Ok(self.reset(Some(answer.at)));
        }
        let to = *catching_up.to.get_or_insert(answer.at);
        let last = answer.rows.len() < PAGE_ROWS as usize;
        if !last {
            catching_up.query.after = answer.rows.last().map(|row| (row.window_start.0, row.stream_id.clone()));
            return Ok(event(None, &answer.at, &answer.rows));
        }
        self.catching_up = None;
        self.feed.told(&to);
        self.position = Some(Position { at: to, complete: false });
        Ok(event(to.epoch, &to, &answer.rows))
    }

    /// What a page of the one reader means to this client.
    async fn page(&mut self, page: &Page) -> Option<Bytes> {
        let Some(position) = &mut self.position else { return Some(self.start_anew().await) };
        if page.to.life != position.at.life {
            return Some(self.start_anew().await);
        }
        if page.to.epoch <= position.at.epoch {
            return None;
        }
        position.complete = if page.first { page.since <= position.at.epoch } else { position.complete };
        if !position.complete {
            // It came too late for the beginning. Once all are through, a query of its own brings what it missed.
            return if page.last { Some(self.fill_gap()) } else { None };
        }
        let watermark_moved = page.to.watermark != position.at.watermark;
        if page.last {
            *position = Position { at: page.to, complete: false };
        }
        if self.streams.is_empty() {
            return Some(page.whole());
        }
        let (event, has_rows) = page.of(&self.streams);
        let due = watermark_moved || self.sent.elapsed() >= PROGRESS;
        (has_rows || (page.last && due)).then_some(event)
    }

    /// Pages were dropped before this client took them: it is told, and gets the newest value of all that it missed.
    fn fell_behind(&mut self, pages: u64) -> Bytes {
        let slow: Bytes = format!("event: slow\ndata: {{\"skipped\":{pages}}}\n\n").into();
        [slow, self.fill_gap()].concat().into()
    }

    /// From its position on, if it has one; else from a full picture.
    fn fill_gap(&mut self) -> Bytes {
        let at = self.position.as_ref().map(|position| position.at);
        let Some((at, epoch)) = at.and_then(|at| Some((at, at.epoch?))) else { return self.reset(at.or(self.feed.now())) };
        self.catching_up = Some(CatchUp::changes(self.grain, epoch, at.life, at.changes_start_after()));
        COMMENT
    }

    async fn start_anew(&mut self) -> Bytes {
        match self.store.moment().await {
            Ok(at) => self.reset(Some(at)),
            Err(_) => self.reset(None),
        }
    }

    fn reset(&mut self, at: Option<Moment>) -> Bytes {
        let Some(at) = at else {
            // Nothing is known: everything is asked for.
            self.catching_up = Some(CatchUp { query: ChangesQuery::all(self.grain), life: None, to: None });
            return Bytes::from_static(b"event: reset\ndata: {\"epoch\":null}\n\n");
        };
        self.catching_up = Some(CatchUp::picture(self.grain, &at, self.minutes));
        reset_event(&at)
    }
}
