//! The page for people: one document, one style sheet, one script, all compiled in and loading nothing from elsewhere.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

/// Nothing but this server's own files, and the images that the script makes from its answers.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /` and the two files that it names.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> [(&'static str, MethodRouter<S>); 3] {
    [
        ("/", get(|| async { file("text/html; charset=utf-8", include_str!("index.html")) })),
        ("/page.css", get(|| async { file("text/css; charset=utf-8", include_str!("page.css")) })),
        ("/page.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("page.js")) })),
    ]
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    /// What a browser would fetch from elsewhere.
    #[test]
    fn the_page_loads_nothing_from_elsewhere() {
        for text in [include_str!("index.html"), include_str!("page.css"), include_str!("page.js")] {
            let hosts = text
                .match_indices("//")
                .filter(|(at, _)| text[..*at].ends_with("http:") || text[..*at].ends_with("https:"));
            let foreign: Vec<_> = hosts.map(|(at, _)| text[at..].chars().take(30).collect::<String>()).collect();
            assert!(foreign.iter().all(|url| url.starts_with("//www.w3.org/")), "{foreign:?}");
        }
    }
}
