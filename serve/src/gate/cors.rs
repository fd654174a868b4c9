//! Which pages of other servers a browser lets use this one.

use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

/// How long a browser may go without asking again whether it may ask.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// What a page may send besides what every page may.
const HEADERS: [HeaderName; 7] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The pages that may use this server from a browser, besides its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// No other.
    #[default]
    None,
    /// Those of some servers.
    Some(Vec<Origin>),
    /// All that there are.
    Any,
}

/// Scheme, host and port of a server, as browsers tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no origin; it is http://HOST or https://HOST, with :PORT if it is unusual, no path, in small letters"
            )
        };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        let is_whole = format!("{}://{authority}", uri.scheme_str().unwrap_or_default()) == text;
        if !is_whole || authority.as_str().contains('@') || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong());
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| wrong())
    }
}

impl Origins {
    /// From a list as it is typed: `*`, or origins.
    ///
    /// # Errors
    /// What is no origin, and `*` beside others.
    pub fn parse(list: &[String]) -> Result<Self, String> {
        match list {
            [] => Ok(Self::None),
            [all] if all == "*" => Ok(Self::Any),
            list if list.iter().any(|text| text == "*") => {
                Err("\"*\" stands for every origin; none can stand beside it".to_owned())
            }
            list => list.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self::Some),
        }
    }

    /// What answers a browser's questions, if there is an origin to say yes to.
    pub(super) fn layer(&self) -> Option<CorsLayer> {
        let origins = match self {
            Self::None => return None,
            Self::Some(origins) => AllowOrigin::list(origins.iter().map(|Origin(origin)| origin.clone())),
            Self::Any => AllowOrigin::any(),
        };
        let layer = CorsLayer::new().allow_origin(origins).allow_methods([Method::GET, Method::POST]);
        Some(layer.allow_headers(HEADERS).expose_headers(Any).max_age(MAX_AGE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &[&str]) -> Result<Origins, String> {
        Origins::parse(&list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn origins_are_written_as_browsers_do() {
        assert_eq!((parse(&[]), parse(&["*"])), (Ok(Origins::None), Ok(Origins::Any)));
        let Ok(Origins::Some(list)) = parse(&["https://a.example", "http://[::1]:8080"]) else { panic!() };
        assert_eq!(
            list.iter().map(|Origin(value)| value.to_str().unwrap()).collect::<Vec<_>>()[1],
            "http://[::1]:8080"
        );
        for wrong in [
            "",
            "a.example",
            "//a.example",
            "ftp://a.example",
            "https://a.example/",
            "https://a.example/x",
            "https://",
            "https://A.example",
            "https://me@a.example",
            "https://a.example?x",
            "null",
            "http://a b",
            "https://é.example",
        ] {
            let error = parse(&[wrong]).unwrap_err();
            assert!(error.contains("no origin; it is http://HOST"), "{error}");
        }
        assert!(parse(&["*", "https://a.example"]).unwrap_err().contains("beside"));
    }
}
