//! Where the time of a request went, for a collector of traces. Without the feature `otlp` nothing is noted.

#[cfg(feature = "otlp")]
mod client;
#[cfg(feature = "otlp")]
mod collector;
#[cfg(feature = "otlp")]
mod record;

#[cfg(feature = "otlp")]
pub use collector::{Collector, CollectorError};
#[cfg(feature = "otlp")]
pub(crate) use record::{Begun, note};

#[cfg(not(feature = "otlp"))]
pub(crate) use nothing::{Begun, note};

#[cfg(not(feature = "otlp"))]
mod nothing {
    use axum::http::HeaderMap;
    use axum::response::Response;

    use crate::metrics::Times;

    /// A request of which nothing is noted.
    pub(crate) struct Begun;

    impl Begun {
        pub(crate) fn new(_: &HeaderMap) -> Self {
            Self
        }

        pub(crate) fn end(self, _: &mut Response, _: [(&'static str, &str); 3]) {}
    }

    pub(crate) fn note(_: &mut Response, _: Times) {}
}
