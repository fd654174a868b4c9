//! The parameters of a request as they were given: in its query and in its JSON body.

use std::fmt;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Query, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::error::ApiError;
use crate::service::Limits;

/// Names and values in their own order.
pub(super) type Pairs = Vec<(String, String)>;

/// Reads the query and the body of a request with these `headers`, the body within `limits`.
///
/// # Errors
/// 400 for what is no query or no JSON object, 408 for a body that does not come, 413 for one that is too long, 415 for
/// one that is not JSON.
pub(super) async fn read(request: Request, headers: &HeaderMap, limits: &Limits) -> Result<Pairs, ApiError> {
    let query = Query::try_from_uri(request.uri());
    let Query(mut pairs): Query<Pairs> =
        query.map_err(|error| ApiError::syntax("query", "invalid_query", error.body_text()))?;
    let is_json = is_json(headers);
    match body(request, limits).await? {
        Ok(body) if body.is_empty() => {}
        Ok(body) if is_json => pairs.extend(from_json(&body)?),
        Err(error) if is_json => return Err(unreadable(&error, limits.max_body)),
        _ => {
            let message = "parameters belong into the query (POST /generate?class=...) or into a body of type \
                           application/json; another body has to be empty";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "body_not_empty", message));
        }
    }
    Ok(pairs)
}

/// Reads a body of JSON within `limits`.
///
/// # Errors
/// 408 for a body that does not come, 413 for one that is too long, 415 for one that is something else.
pub(super) async fn json(request: Request, limits: &Limits) -> Result<Bytes, ApiError> {
    if request.headers().contains_key(header::CONTENT_TYPE) && !is_json(request.headers()) {
        let message = "the body has to be of type application/json; there is no binary form of tensors";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "body_not_json", message));
    }
    body(request, limits).await?.map_err(|error| unreadable(&error, limits.max_body))
}

/// The body, if it comes in time.
async fn body(request: Request, limits: &Limits) -> Result<Result<Bytes, BytesRejection>, ApiError> {
    let limit = limits.request_timeout;
    tokio::time::timeout(limit, Bytes::from_request(request, &())).await.map_err(|_| {
        let message = format!("the body did not come within {} s", limit.as_secs_f32());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
    })
}

/// Whether the body calls itself JSON; its encoding is UTF-8 in any case.
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn unreadable(error: &BytesRejection, max: usize) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let message = format!("the body is longer than {max} bytes");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message);
    }
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", "the body could not be read to its end")
}

/// An object's members as the query would have them.
fn from_json(body: &[u8]) -> Result<Pairs, ApiError> {
    let Object(members) = serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is no JSON object of parameters: {error}");
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", message)
    })?;
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(number) => Ok((name, number.to_string())),
        other => {
            let message = format!("{name} is {}, neither a number nor a text", kind(&other));
            Err(ApiError::syntax(&name, "invalid_parameter", message))
        }
    };
    members.into_iter().map(text).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Array(_) => "a list",
        _ => "an object",
    }
}

/// A JSON object that keeps a name that is given twice, so that it can be refused.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parameters;
    use super::*;

    #[test]
    fn json_reads_like_a_query() {
        let body = br#"{"class": "Bag", "n": 4, "alpha": 1.50, "seed": 18446744073709551615, "n": "5"}"#;
        let pairs = from_json(body).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let seed = "18446744073709551615";
        assert_eq!(pairs, [("class", "Bag"), ("n", "4"), ("alpha", "1.5"), ("seed", seed), ("n", "5")]);
    }

    #[test]
    fn what_is_no_object_of_texts_and_numbers_is_refused() {
        let deep = "[".repeat(4000);
        let bodies: [&[u8]; 9] = [
            b"[]",
            b"7",
            b"null",
            b"{",
            b"{} {}",
            b"{\"n\": NaN}",
            b"{\"n\": 1e999}",
            b"{\"\xff\": 1}",
            deep.as_bytes(),
        ];
        for body in bodies {
            let error = from_json(body).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, "invalid_body"), "{body:?}");
        }
        for (body, word) in [("null", "null"), ("true", "true or"), ("[1]", "a list"), ("{}", "an object")] {
            let error = from_json(format!("{{\"seed\": {body}}}").as_bytes()).unwrap_err();
            assert_eq!((error.code, error.details.parameter.as_deref()), ("invalid_parameter", Some("seed")));
            assert!(error.details.message.contains(word), "{}", error.details.message);
        }
    }

    /// Bytes of right bodies, changed, cut and doubled by chance: each is an order or an error of the client's.
    #[test]
    fn no_body_does_more_than_ask_for_something_wrong() {
        let seeds: [&[u8]; 3] = [
            br#"{"class": "random", "alpha": 1.5, "seed": 18446744073709551615, "n": 64}"#,
            br#"{"class": 4, "format": "webp", "grid": 8, "n": "7", "alpha": "-0.0e3"}"#,
            "{\"class\": \"\u{c9}t\u{e9}\", \"seed\": 1e19, \"n\": [null, {\"a\": true}]}".as_bytes(),
        ];
        let pieces: [&[u8]; 8] = [b"\"", b"{", b"}", b"\\u", b"e308", b"-", b"\xff", b"9999999999999999999999"];
        let (mut orders, mut refused) = (0, 0);
        for round in 0..20_000 {
            let mut chance = drifting_spec::Stream::new(round, "body", 0);
            let mut body = seeds[chance.below(seeds.len())].to_vec();
            for _ in 0..=chance.below(4) {
                let at = chance.below(body.len() + 1);
                let end = body.split_off(at);
                match chance.below(5) {
                    0 => body.extend([&[chance.below(256) as u8], end.get(1..).unwrap_or_default()].concat()),
                    1 => continue,
                    2 => body.extend(end.iter().skip(1)),
                    3 => body.extend([&end[..], &end[..]].concat()),
                    _ => body.extend([pieces[chance.below(pieces.len())], &end[..]].concat()),
                }
            }
            let asked = from_json(&body)
                .and_then(|pairs| parameters::parse(&pairs, &HeaderMap::new(), &crate::testing::manifest(), 64));
            match asked {
                Ok(_) => orders += 1,
                Err(error) => {
                    assert!(matches!(error.status.as_u16(), 400 | 422), "{error:?}");
                    refused += 1;
                }
            }
        }
        assert!(orders > 100 && refused > 10_000, "{orders} {refused}");
    }
}
