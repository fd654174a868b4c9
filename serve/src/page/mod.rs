//! The pages for people: a place to try the model and a reference of the interface. Documents, styles and scripts are
//! compiled in and load nothing from elsewhere; their addresses are relative, so that a proxy may put them behind a path.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

/// Nothing but this server's own files, and the images that the scripts make from its answers.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! parts {
    ($($name:literal),* $(,)?) => {
        /// What the documents load, by name.
        const PARTS: &[(&str, &str)] = &[$(($name, include_str!($name))),*];
    };
}

parts![
    "ask.js",
    "base.css",
    "board.js",
    "classes.js",
    "describe.js",
    "docs.css",
    "docs.js",
    "dots.js",
    "icon.svg",
    "keys.js",
    "page.css",
    "page.js",
    "past.js",
    "plan.js",
    "run.js",
    "settings.js",
    "sheet.js",
    "text.js",
    "theme.js",
    "tryout.js",
    "viewer.js",
];

/// The documents: `GET /` and `GET /docs`.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> [(&'static str, MethodRouter<S>); 2] {
    [
        ("/", get(|| async { file("text/html; charset=utf-8", include_str!("index.html")) })),
        ("/docs", get(|| async { file("text/html; charset=utf-8", include_str!("docs.html")) })),
    ]
}

/// The part that the documents call `page/{name}`.
pub(crate) fn part(name: &str) -> Option<Response> {
    let (name, text) = PARTS.iter().find(|(known, _)| *known == name)?;
    let kind = match name.rsplit_once('.')?.1 {
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    Some(file(kind, text).into_response())
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOCUMENTS: [&str; 2] = [include_str!("index.html"), include_str!("docs.html")];

    fn texts() -> impl Iterator<Item = &'static str> {
        DOCUMENTS.into_iter().chain(PARTS.iter().map(|(_, text)| *text))
    }

    /// What a browser would fetch from elsewhere.
    #[test]
    fn the_pages_load_nothing_from_elsewhere() {
        for text in texts() {
            let hosts = text
                .match_indices("//")
                .filter(|(at, _)| text[..*at].ends_with("http:") || text[..*at].ends_with("https:"));
            let foreign: Vec<_> = hosts.map(|(at, _)| text[at..].chars().take(30).collect::<String>()).collect();
            assert!(foreign.iter().all(|url| url.starts_with("//www.w3.org/")), "{foreign:?}");
        }
    }

    /// The names between `before` and the next quotation mark.
    fn named(text: &'static str, before: &str) -> Vec<&'static str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_part_is_loaded_and_every_loaded_part_is_there() {
        let documents = DOCUMENTS.iter().flat_map(|text| named(text, "\"page/"));
        let imports = PARTS.iter().flat_map(|(_, text)| named(text, "from \"./"));
        let loaded: BTreeSet<_> = documents.chain(imports).collect();
        assert_eq!(loaded, PARTS.iter().map(|(name, _)| *name).collect());
    }

    /// Behind a path, an address that begins with a slash would be another server's.
    #[test]
    fn addresses_are_relative() {
        for text in texts() {
            for absolute in ["src=\"/", "href=\"/", "from \"/", "fetch(\"/", "url(/"] {
                assert!(!text.contains(absolute), "{absolute}");
            }
        }
    }
}
