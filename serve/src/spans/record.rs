//! A request as spans: itself, and its time in the queue, in the engine and in the encoder.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use axum::response::Response;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;

use crate::metrics::Times;

/// What takes the spans, once there is a collector.
pub(super) static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Routes that are asked over and over by machines, and tell nothing.
const DULL: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// A request that has begun, in the trace of its client if that sent a `traceparent`.
pub(crate) struct Begun {
    at: Instant,
    parent: Option<Context>,
}

/// What an answer tells of the images in it: their times, and when they were done.
#[derive(Clone)]
struct Stages(Times, Instant);

/// Notes the times of the images in `response`.
pub(crate) fn note(response: &mut Response, times: Times) {
    if TRACER.get().is_some() {
        response.extensions_mut().insert(Stages(times, Instant::now()));
    }
}

impl Begun {
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        let extract =
            |_| TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
        Self { at: Instant::now(), parent: TRACER.get().map(extract) }
    }

    /// The answer is there. `told` has method, route and the request's number.
    pub(crate) fn end(self, response: &mut Response, told: [(&'static str, &str); 3]) {
        let (Some(tracer), Some(parent)) = (TRACER.get(), self.parent) else { return };
        let [(_, method), (_, route), _] = told;
        if DULL.contains(&route) {
            return;
        }
        // Of both clocks, one cannot be set back and the other is what collectors know.
        let now = (Instant::now(), SystemTime::now());
        let time = |at: Instant| now.1.checked_sub(now.0.saturating_duration_since(at)).unwrap_or(now.1);
        let status = response.status();
        let mut attributes: Vec<_> = told.map(|(key, value)| KeyValue::new(key, value.to_owned())).into();
        attributes.push(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        let request = SpanBuilder::from_name(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_start_time(time(self.at))
            .with_attributes(attributes);
        let mut request = tracer.build_with_context(request, &parent);
        if status.is_server_error() {
            request.set_status(Status::error(""));
        }
        let within = parent.with_span(request);
        if let Some(Stages(times, done)) = response.extensions_mut().remove() {
            // Told backwards from the end; moments between two of them belong to none.
            let mut end = done;
            for (name, length) in [("encode", times.encode), ("compute", times.compute), ("queue", times.queue)] {
                let start = end.checked_sub(length).unwrap_or(end).max(self.at);
                stage(tracer, &within, name, (time(start), end.duration_since(start)));
                end = start;
            }
        }
        within.span().end_with_timestamp(now.1);
    }
}

fn stage(tracer: &SdkTracer, within: &Context, name: &'static str, (start, length): (SystemTime, Duration)) {
    let span = SpanBuilder::from_name(name).with_start_time(start);
    tracer.build_with_context(span, within).end_with_timestamp(start + length);
}
