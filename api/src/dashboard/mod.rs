//! The dashboard at `/`: a page of static files that are part of the program. It asks this service only, through the same
//! paths as any client, and has no inline script or style, so its content policy can be strict.
//!
//! The files are served under a hash of them all, so they may be kept for ever, and a page never mixes files of two versions:
//! modules name each other relatively. Only `/` itself, which names the hash, is asked for again each time.

use crate::error::ApiError;
use crate::params::Choice;
use actix_web::http::header::{self, EntityTag, IfNoneMatch};
use actix_web::web::{Header, Path};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde_json::json;
use std::sync::LazyLock;
use tidemark_model::Metric;
use tidemark_model::metrics::{Declared, RollUp, Unit};

/// Nothing but this service's own files, no inline code, and no text that becomes markup.
const CONTENT_POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; \
                              frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
/// A year, the most that caches heed.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Stands in the page for the directory of its assets.
const ASSETS_PLACE: &str = "{{assets}}";
/// Stands in the page for the metrics that there are, as JSON in an attribute.
const METRICS_PLACE: &str = "{{metrics}}";

/// A file that the page loads.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

macro_rules! assets {
    ($($name:literal),* $(,)?) => {
        &[$(Asset { name: $name, media_type: media_type($name), content: include_bytes!(concat!("page/", $name)) }),*]
    };
}

const ASSETS: &[Asset] = assets![
    "base.css",
    "layout.css",
    "charts.css",
    "panels.css",
    "icon.svg",
    "inter.woff2",
    "inter-LICENSE.txt",
    "theme.js",
    "main.js",
    "metrics.js",
    "grains.js",
    "choose.js",
    "place.js",
    "api.js",
    "live.js",
    "refresh.js",
    "series.js",
    "money.js",
    "format.js",
    "dom.js",
    "figures.js",
    "plot.js",
    "lane.js",
    "scale.js",
    "table.js",
    "streams.js",
    "pipeline.js",
    "connection.js",
];

/// The page, with the directory of its assets and the metrics filled in, and its tag.
static PAGE: LazyLock<(String, EntityTag)> = LazyLock::new(|| {
    let metrics = Metric::ALL.map(|metric| {
        let Declared { name, unit, meaning, roll_up, events, grains, first } = metric.declared();
        let unit = match unit {
            Unit::Count => "count",
            Unit::Milliseconds => "milliseconds",
            Unit::Usd => "usd",
        };
        let roll_up = match roll_up {
            RollUp::AtEnd => "at_end",
            RollUp::Distinct => "distinct",
            RollUp::Sum => "sum",
            RollUp::Largest => "largest",
        };
        let events: Vec<_> = events.iter().map(|event| event.as_str()).collect();
        let grains: Vec<_> = grains.iter().map(|grain| grain.as_str()).collect();
        json!({"name": name, "unit": unit, "meaning": meaning, "roll_up": roll_up, "events": events, "grains": grains,
               "first": first})
    });
    let metrics = json!(metrics).to_string().replace('&', "&amp;").replace('\'', "&#39;");
    let page = include_str!("page/index.html").replace(ASSETS_PLACE, &format!("assets/{}", *VERSION));
    let page = page.replace(METRICS_PLACE, &metrics);
    let tag = EntityTag::new_weak(hash([page.as_bytes()]));
    (page, tag)
});

/// Changes with any asset's name or content.
static VERSION: LazyLock<String> = LazyLock::new(|| hash(ASSETS.iter().flat_map(|asset| [asset.name.as_bytes(), asset.content])));

/// The page itself.
pub async fn page(known: Option<Header<IfNoneMatch>>) -> HttpResponse {
    let (page, tag) = &*PAGE;
    let is_known = known.is_some_and(|Header(known)| match known {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|known| known.weak_eq(tag)),
    });
    let mut response = guarded(if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() });
    response.insert_header((header::CACHE_CONTROL, "no-cache")).insert_header(header::ETag(tag.clone()));
    if is_known { response.finish() } else { response.content_type("text/html; charset=utf-8").body(page.as_str()) }
}

/// A file of this version; another version's is not here.
pub async fn asset(path: Path<(String, String)>) -> Result<HttpResponse, ApiError> {
    let (version, name) = path.into_inner();
    let asset = ASSETS.iter().find(|asset| asset.name == name && version == *VERSION).ok_or(ApiError::NotFound)?;
    let mut response = guarded(HttpResponse::Ok());
    if asset.media_type == "font/woff2" {
        // It is compressed in itself: says to the middleware that there is nothing to gain.
        response.insert_header((header::CONTENT_ENCODING, "identity"));
    }
    response.insert_header((header::CACHE_CONTROL, FOR_EVER));
    Ok(response.content_type(asset.media_type).body(asset.content))
}

/// With what browsers must not do.
fn guarded(mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    response
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    response
}

/// By the end of a file's name. Not to be built with a file of another kind.
const fn media_type(name: &str) -> &'static str {
    match name.as_bytes() {
        [.., b'.', b'j', b's'] => "text/javascript; charset=utf-8",
        [.., b'.', b'c', b's', b's'] => "text/css; charset=utf-8",
        [.., b'.', b's', b'v', b'g'] => "image/svg+xml",
        [.., b'.', b'w', b'o', b'f', b'f', b'2'] => "font/woff2",
        [.., b'.', b't', b'x', b't'] => "text/plain; charset=utf-8",
        _ => panic!("a file without a known media type"),
    }
}

/// A hash that is the same in every process (FNV-1a), as digits. It tells versions apart and guards nothing.
fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let bytes = parts.into_iter().flat_map(|part| part.iter().copied().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}
