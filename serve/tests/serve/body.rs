//! Parameters in a JSON body, and random classes.

use axum::body::Body;
use axum::http::{Request, StatusCode};

use crate::client::{app, decode, error, generate, post, send};

#[tokio::test]
async fn a_body_asks_for_the_same_as_a_query() {
    let app = app();
    let expected = generate(&app, "class=3&alpha=1.5&seed=18446744073709551615&n=2").await;
    assert_eq!(expected.status, StatusCode::OK);
    let same = [
        ("", r#"{"class": 3, "alpha": 1.5, "seed": 18446744073709551615, "n": 2}"#),
        ("", r#"{"class": "dress", "alpha": "1.5", "seed": "18446744073709551615", "n": "2", "format": "png"}"#),
        ("?class=3&n=2", r#"{"alpha": 1.5, "seed": 18446744073709551615}"#),
        ("?class=3&n=2&alpha=1.5&seed=18446744073709551615", "{}"),
        ("?class=3&n=2&alpha=1.5&seed=18446744073709551615", ""),
    ];
    for (query, body) in same {
        assert_eq!(post(&app, query, body).await.body, expected.body, "{query} {body}");
    }
}

#[tokio::test]
async fn a_wrong_body_is_told_as_a_wrong_query_is() {
    let app = app();
    let parameter = |name: &str| Some(name.to_owned());
    let long = format!(r#"{{"class": "{}"}}"#, "x".repeat(17 << 10));
    let deep = "{\"class\":".repeat(1000);
    let cases = [
        ("", "{}", 400, "missing_parameter", parameter("class")),
        ("", r#"{"class": null}"#, 400, "invalid_parameter", parameter("class")),
        ("", r#"{"class": [1]}"#, 400, "invalid_parameter", parameter("class")),
        ("", r#"{"class": 10}"#, 422, "out_of_range", parameter("class")),
        ("", r#"{"class": 1.5}"#, 422, "out_of_range", parameter("class")),
        ("", r#"{"class": 1, "alpha": 9}"#, 422, "out_of_range", parameter("alpha")),
        ("", r#"{"class": 1, "alpha": "NaN"}"#, 422, "out_of_range", parameter("alpha")),
        ("", r#"{"class": 1, "n": 2.5}"#, 400, "invalid_parameter", parameter("n")),
        ("", r#"{"class": 1, "n": -1}"#, 400, "invalid_parameter", parameter("n")),
        ("", r#"{"class": 1, "seed": 18446744073709551616}"#, 422, "out_of_range", parameter("seed")),
        ("", r#"{"class": 1, "steps": 4}"#, 400, "unknown_parameter", parameter("steps")),
        ("", r#"{"class": 1, "class": 1}"#, 400, "repeated_parameter", parameter("class")),
        ("?class=1", r#"{"class": 1}"#, 400, "repeated_parameter", parameter("class")),
        ("?class=1", "[]", 400, "invalid_body", None),
        ("?class=1", r#"{"n": 2"#, 400, "invalid_body", None),
        ("?class=1", r#"{"alpha": NaN}"#, 400, "invalid_body", None),
        ("", deep.as_str(), 400, "invalid_body", None),
        ("", long.as_str(), 413, "body_too_large", None),
    ];
    for (query, body, status, code, parameter) in cases {
        let answer = post(&app, query, body.to_owned()).await;
        assert_eq!(error(&answer), (status, code.to_owned(), parameter), "{query} {body:.80}");
    }
    let answer = post(&app, "", &b"{\"class\": \"\xff\"}"[..]).await;
    assert_eq!(error(&answer), (400, "invalid_body".to_owned(), None));
}

#[tokio::test]
async fn only_json_is_read() {
    let app = app();
    for kind in [None, Some("application/x-www-form-urlencoded"), Some("text/json"), Some("application/json5")] {
        for body in ["class=1".to_owned(), "{}".to_owned(), "x".repeat(50_000)] {
            let request = Request::post("/generate?class=1");
            let request = kind.into_iter().fold(request, |request, kind| request.header("content-type", kind));
            let answer = send(&app, request.body(Body::from(body)).unwrap()).await;
            assert_eq!(error(&answer), (415, "body_not_empty".to_owned(), None), "{kind:?}");
        }
    }
    let request = Request::post("/generate").header("content-type", "Application/JSON; charset=utf-8");
    let answer = send(&app, request.body(Body::from(r#"{"class": 1}"#)).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_random_class_is_told_and_can_be_asked_for_again() {
    let app = app();
    let drawn = generate(&app, "class=random&n=3").await;
    let again = format!("class={}&seed={}&n=3", drawn.header("x-class"), drawn.header("x-seed"));
    assert_eq!(generate(&app, &again).await.body, drawn.body);
    let again = format!("class=Random&seed={}&n=3", drawn.header("x-seed"));
    assert_eq!(generate(&app, &again).await.body, drawn.body);
    let text = decode(&drawn.body).text;
    let class = text.iter().find(|(key, _)| key == "Class").map(|(_, class)| class.as_str());
    assert_eq!(class, Some(drawn.header("x-class")));
    let json = generate(&app, "class=random&seed=4&format=json").await;
    assert_eq!(json.json()["images"][0]["class"].to_string(), json.header("x-class"));
    let mut classes = std::collections::BTreeSet::new();
    for seed in 0..40 {
        classes.insert(generate(&app, &format!("class=random&seed={seed}")).await.header("x-class").to_owned());
    }
    assert!(classes.len() > 7, "{classes:?}");
}
