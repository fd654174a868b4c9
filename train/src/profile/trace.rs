//! A profile for Chrome's viewer (`chrome://tracing`, Perfetto).

use drifting_models::profile::{Event, Lane};
use serde_json::{Value, json};

/// Every span as an event of the trace event format, a row for each thread; times in microseconds.
#[must_use]
pub fn trace(lanes: &[Lane]) -> Value {
    let events = lanes.iter().enumerate().flat_map(|(thread, lane)| {
        let name = json!({
            "name": "thread_name", "ph": "M", "pid": 1, "tid": thread, "args": { "name": lane.thread },
        });
        [name].into_iter().chain(lane.events.iter().map(move |event| complete(event, thread)))
    });
    json!({ "displayTimeUnit": "ms", "traceEvents": events.collect::<Vec<_>>() })
}

fn complete(event: &Event, thread: usize) -> Value {
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    let seconds = event.length.as_secs_f64().max(1e-9);
    let mut arguments = json!({});
    if event.flops > 0 {
        arguments["GFLOP/s"] = json!(event.flops as f64 / seconds / 1e9);
    }
    if event.bytes > 0 {
        arguments["GB/s"] = json!(event.bytes as f64 / seconds / 1e9);
    }
    json!({
        "name": event.name, "ph": "X", "pid": 1, "tid": thread,
        "ts": micros(event.start), "dur": micros(event.length), "args": arguments,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_span_is_an_event_of_its_thread() {
        let length = Duration::from_micros(1500);
        let event = Event { name: "norm", start: Duration::from_millis(2), length, flops: 3000, bytes: 0 };
        let lanes = [Lane::default(), Lane { thread: "rayon".to_owned(), caller: false, events: vec![event] }];
        let found = trace(&lanes);
        let events = found["traceEvents"].as_array().unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!((&events[1]["ph"], &events[1]["args"]["name"]), (&json!("M"), &json!("rayon")));
        assert_eq!(
            (&events[2]["ts"], &events[2]["dur"], &events[2]["tid"]),
            (&json!(2000.0), &json!(1500.0), &json!(1))
        );
        assert_eq!(events[2]["args"]["GFLOP/s"], json!(0.002));
    }
}
