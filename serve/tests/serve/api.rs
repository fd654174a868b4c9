//! Routes, parameters, headers and errors.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use drifting_serve::{Limits, Models, router};
use drifting_spec::{Inputs, pixels};
use serde_json::json;

use crate::client::{
    FAILING, INFINITE, PAUSE, SLOW, app, call, debase64, decode, error, generate, scripted, scripted_part, send,
};
use crate::fixture;

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes() {
    let app = app();
    let first = generate(&app, "class=3&alpha=1.5&seed=7").await;
    assert_eq!((first.status, first.header("content-type")), (StatusCode::OK, "image/png"));
    assert_eq!(generate(&app, "class=dress&alpha=1.50&seed=7").await.body, first.body);
    assert_ne!(generate(&app, "class=3&alpha=1.5&seed=8").await.body, first.body);
    assert_ne!(generate(&app, "class=3&alpha=3&seed=7").await.body, first.body);
    assert_ne!(generate(&app, "class=4&alpha=1.5&seed=7").await.body, first.body);
}

#[tokio::test]
async fn an_image_does_not_depend_on_who_shares_its_batch() {
    let app = app();
    let alone = generate(&app, "class=3&seed=7").await.body;
    let crowd = (0..24).map(|number| {
        let app = app.clone();
        let query = if number % 3 == 0 { "class=3&seed=7".to_owned() } else { format!("class=5&seed={number}&n=3") };
        tokio::spawn(async move { (number, generate(&app, &query).await) })
    });
    let mut largest = 0;
    for task in crowd.collect::<Vec<_>>() {
        let (number, answer) = task.await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        largest = largest.max(answer.header("x-batch-size").parse().unwrap());
        assert!(number % 3 != 0 || answer.body == alone, "{number}");
    }
    assert!(largest > 1, "nothing was computed together");
}

#[tokio::test]
async fn the_pixels_are_those_of_the_model() {
    let manifest = fixture::manifest();
    let model = drifting_serve::Model::from_bytes(fixture::model()).unwrap();
    let settings = drifting_serve::engine::EngineSettings {
        choice: drifting_serve::engine::EngineChoice::Rten,
        ..Default::default()
    };
    let mut engine = drifting_serve::engine::open(&model, &settings, &|message| panic!("{message}")).unwrap();
    let values = engine.run(&Inputs::seeded(&manifest.generator, 7, &[(3, 2.0), (3, 2.0)])).unwrap();
    let shape = manifest.generator.image;
    let expected: Vec<_> =
        values.chunks(shape.len()).map(|image| pixels::to_bytes([-1.0, 1.0], image, shape).unwrap()).collect();
    assert!(expected[0].iter().any(|&level| level != expected[0][0]));

    let app = app();
    let answer = generate(&app, "class=3&alpha=2&seed=7&n=2").await;
    let (whole, bytes) = pixels::sheet(&expected, shape, 2).unwrap();
    let picture = decode(&answer.body);
    assert_eq!((picture.width as usize, picture.height as usize), (whole.width, whole.height));
    assert_eq!(picture.pixels, bytes);
    assert_eq!(decode(&generate(&app, "class=3&alpha=2&seed=7").await.body).pixels, expected[0]);
}

#[tokio::test]
async fn the_answer_says_how_the_image_was_made() {
    let app = app();
    let answer = generate(&app, "class=Sneaker&seed=7").await;
    let info = call(&app, Method::GET, "/info").await.json();
    let sha256 = info["model"]["sha256"].as_str().unwrap();
    assert_eq!((answer.header("x-seed"), answer.header("x-model")), ("7", sha256));
    assert_eq!((answer.header("x-batch-size"), answer.header("x-engine")), ("1", "rten/0.27.0 rten-cpu"));
    assert!(answer.headers.get("x-engine-fallback").is_none());
    assert!(!answer.header("x-request-id").is_empty());
    for name in ["x-queue-ms", "x-compute-ms"] {
        assert!(answer.header(name).parse::<f64>().unwrap() >= 0.0, "{name}");
    }
    let picture = decode(&answer.body);
    let text = |key: &str| picture.text.iter().find(|(known, _)| known == key).map(|(_, text)| text.as_str());
    assert_eq!((text("Seed"), text("Index"), text("Alpha")), (Some("7"), Some("0"), Some("1.5")));
    assert_eq!((text("Class"), text("Class name")), (Some("7"), Some("Sneaker")));
    assert_eq!(text("Model SHA-256"), Some(sha256));
    assert!(text("Software").unwrap().starts_with("drifting "));
}

#[tokio::test]
async fn a_drawn_seed_can_be_used_again() {
    let app = app();
    let drawn = generate(&app, "class=1").await;
    assert_ne!(drawn.header("x-seed"), generate(&app, "class=1").await.header("x-seed"));
    let again = generate(&app, &format!("class=1&seed={}", drawn.header("x-seed"))).await;
    assert_eq!(again.body, drawn.body);
}

#[tokio::test]
async fn json_holds_every_image() {
    let app = app();
    let answer = generate(&app, "class=2&seed=9&n=3&format=json").await.json();
    assert_eq!(answer["seed"], 9);
    let images = answer["images"].as_array().unwrap();
    assert_eq!(images.len(), 3);
    assert_eq!(images[2]["index"], 2);
    assert_eq!(
        (&images[2]["class"], &images[2]["class_name"], &images[2]["alpha"]),
        (&json!(2), &json!("Pullover"), &json!(1.5))
    );
    let file = debase64(images[0]["png"].as_str().unwrap());
    assert_eq!(file, generate(&app, "class=2&seed=9").await.body);
}

#[tokio::test]
async fn wrong_parameters_are_named_with_their_range() {
    let app = app();
    let cases = [
        ("", 400, "missing_parameter", "class"),
        ("class=10", 422, "out_of_range", "class"),
        ("class=snaeker", 422, "out_of_range", "class"),
        ("class=1&alpha=4.001", 422, "out_of_range", "alpha"),
        ("class=1&alpha=NaN", 422, "out_of_range", "alpha"),
        ("class=1&alpha=high", 400, "invalid_parameter", "alpha"),
        ("class=1&n=65", 422, "out_of_range", "n"),
        ("class=1&n=0", 422, "out_of_range", "n"),
        ("class=1&n=1e3", 400, "invalid_parameter", "n"),
        ("class=1&seed=x", 400, "invalid_parameter", "seed"),
        ("class=1&seed=18446744073709551616", 422, "out_of_range", "seed"),
        ("class=1&format=gif", 422, "out_of_range", "format"),
        ("class=1&steps=4", 400, "unknown_parameter", "steps"),
        ("class=1&class=1", 400, "repeated_parameter", "class"),
    ];
    for (query, status, code, parameter) in cases {
        let answer = generate(&app, query).await;
        assert_eq!(error(&answer), (status, code.to_owned(), Some(parameter.to_owned())), "{query}");
    }
    let allowed = generate(&app, "class=1&alpha=9").await.json()["error"]["allowed"].clone();
    assert_eq!(allowed, json!({ "min": 1.0, "max": 4.0 }));
    let classes = generate(&app, "class=shoe").await.json()["error"]["allowed"].clone();
    assert_eq!((&classes["max"], &classes["names"][9]), (&json!(9), &json!("Boot")));
    let hint = generate(&app, "clas=1").await.json()["error"]["message"].clone();
    assert!(hint.as_str().unwrap().contains("did you mean \"class\""), "{hint}");
}

#[tokio::test]
async fn routes_methods_and_bodies_fail_in_the_same_shape() {
    let app = app();
    assert_eq!(error(&call(&app, Method::GET, "/nothing").await), (404, "not_found".to_owned(), None));
    let wrong_method = call(&app, Method::GET, "/generate?class=1").await;
    assert_eq!(error(&wrong_method), (405, "method_not_allowed".to_owned(), None));
    assert_eq!(wrong_method.header("allow"), "POST");
    let request = Request::post("/generate").header("x-request-id", "mine-1").body(Body::empty()).unwrap();
    assert_eq!(send(&app, request).await.json()["error"]["request_id"], "mine-1");
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let app = router(scripted(Limits { max_images: 4, queue: 4, ..Limits::default() }));
    let busy = app.clone();
    let slow = tokio::spawn(async move { generate(&busy, &format!("class={SLOW}&n=1")).await });
    let waiting = app.clone();
    let patient = tokio::spawn(async move { generate(&waiting, "class=0&n=3").await });
    while call(&app, Method::GET, "/healthz").await.json()["images_in_queue"] != 4 {
        tokio::task::yield_now().await;
    }
    let refused = generate(&app, "class=0").await;
    assert_eq!(error(&refused), (429, "queue_full".to_owned(), None));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!((slow.await.unwrap().status, patient.await.unwrap().status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(generate(&app, "class=0&n=4").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let app = router(scripted(Limits { request_timeout: PAUSE / 6, ..Limits::default() }));
    assert_eq!(error(&generate(&app, &format!("class={SLOW}")).await), (504, "timeout".to_owned(), None));
}

#[tokio::test]
async fn what_has_been_given_up_is_not_computed() {
    let app = router(scripted(Limits { request_timeout: PAUSE / 3, ..Limits::default() }));
    let ask = |query: String| {
        let app = app.clone();
        tokio::spawn(async move { generate(&app, &query).await.status.as_u16() })
    };
    let slow = ask(format!("class={SLOW}"));
    while call(&app, Method::GET, "/healthz").await.json()["images_in_queue"] != 1 {
        tokio::task::yield_now().await;
    }
    let behind: Vec<_> = (0..5).map(|seed| ask(format!("class=0&seed={seed}&n=4"))).collect();
    for answer in behind.into_iter().chain([slow]) {
        assert_eq!(answer.await.unwrap(), 504);
    }
    while call(&app, Method::GET, "/healthz").await.json()["images_in_queue"] != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(generate(&app, "class=0").await.status, StatusCode::OK);
    let metrics = call(&app, Method::GET, "/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics);
    // The slow one, which was already in the engine, and the one that came afterwards.
    assert!(metrics.contains("drift_batch_size_sum{model=\"fixture\"} 2.0\n"), "{metrics}");
}

#[tokio::test]
async fn a_failed_batch_harms_no_other_order() {
    let models = Models::start(vec![scripted_part("fixture")], Limits::default()).unwrap();
    let app = router(models);
    let alone = [generate(&app, "class=0&seed=1").await.body, generate(&app, "class=5&seed=2&n=3").await.body];
    let ask = |query: String| {
        let app = app.clone();
        tokio::spawn(async move { generate(&app, &query).await })
    };
    let slow = ask(format!("class={SLOW}"));
    while call(&app, Method::GET, "/healthz").await.json()["images_in_queue"] != 1 {
        tokio::task::yield_now().await;
    }
    let queries = [
        "class=0&seed=1".to_owned(),
        format!("class={FAILING}&n=2"),
        "class=5&seed=2&n=3".to_owned(),
        format!("class={INFINITE}&n=2"),
    ];
    let mut answers = Vec::new();
    for task in queries.map(ask) {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers.iter().map(|answer| answer.status.as_u16()).collect::<Vec<_>>(), [200, 500, 200, 500]);
    assert_eq!([&answers[0].body, &answers[2].body], [&alone[0], &alone[1]]);
    assert_eq!(slow.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn an_engine_that_fails_is_a_500_that_tells_no_secrets() {
    let app = router(scripted(Limits::default()));
    for class in [FAILING, INFINITE] {
        let answer = generate(&app, &format!("class={class}")).await;
        assert_eq!(error(&answer), (500, "engine_failed".to_owned(), None));
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    }
    let answer = generate(&app, "class=0").await;
    assert_eq!((answer.status, answer.header("x-engine-fallback")), (StatusCode::OK, "two lines,  "));
}

#[tokio::test]
async fn info_tells_model_engine_and_limits() {
    let info = call(&app(), Method::GET, "/info").await.json();
    assert_eq!(info["model"]["manifest"]["classes"][3], "Dress");
    assert_eq!((&info["engine"]["name"], &info["engine"]["threads"]), (&json!("rten"), &json!(2)));
    assert_eq!(info["limits"]["max_images"], 64);
    assert_eq!(info["limits"]["batch_sizes"][0], 1);
}

#[tokio::test]
async fn the_page_and_its_files_are_there() {
    let app = app();
    let (page, script, icon) = ("text/html", "text/javascript", "image/svg+xml");
    let files = [("/page/page.css", "text/css"), ("/page/page.js", script), ("/page/icon.svg", icon)];
    for (address, kind) in [("/", page), ("/docs", page)].into_iter().chain(files) {
        let answer = call(&app, Method::GET, address).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.header("content-type").starts_with(kind));
        assert!(answer.header("content-security-policy").contains("default-src 'none'"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    for absent in ["/page/", "/page/absent.js", "/page/%FF", "/page/mod.rs", "/page/..%2Fmod.rs"] {
        assert_eq!(error(&call(&app, Method::GET, absent).await).0, 404, "{absent}");
    }
}
