//! The Open Inference Protocol: the images of `/generate` as tensors.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use drifting_serve::{Limits, Models, router};
use serde_json::{Value, json};

use crate::client::{Answer, FAILING, PAUSE, SLOW, app, call, decode, generate, scripted, scripted_part, send};

const INFER: &str = "/v2/models/fixture/infer";

fn input(name: &str, datatype: &str, data: &Value) -> Value {
    json!({ "name": name, "datatype": datatype, "shape": [data.as_array().unwrap().len()], "data": data })
}

async fn infer_at(app: &Router, address: &str, body: &Value) -> Answer {
    let request = Request::post(address).header("content-type", "application/json");
    send(app, request.body(Body::from(body.to_string())).unwrap()).await
}

async fn infer(app: &Router, body: &Value) -> Answer {
    infer_at(app, INFER, body).await
}

/// Status and words of an error; the protocol has no more.
fn error(answer: &Answer) -> (u16, String) {
    let body = answer.json();
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
    assert!(!answer.header("x-request-id").is_empty());
    (answer.status.as_u16(), body["error"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn rows_are_the_images_of_generate() {
    let app = app();
    let inputs = [
        input("class", "BYTES", &json!(["3", "3", "Bag"])),
        input("alpha", "FP32", &json!([1.5, 1.5, 2.0])),
        input("seed", "UINT64", &json!([7, 7, u64::MAX])),
    ];
    let answer = infer(&app, &json!({ "id": "abc", "inputs": inputs })).await;
    let body = answer.json();
    assert_eq!(
        (&body["id"], &body["model_name"], &body["model_version"]),
        (&"abc".into(), &"fixture".into(), &"1".into())
    );
    for header in ["x-model", "x-engine", "x-queue-ms", "x-compute-ms", "x-batch-size"] {
        assert!(!answer.header(header).is_empty());
    }
    let image = &body["outputs"][0];
    assert_eq!(
        (&image["name"], &image["datatype"], &image["shape"]),
        (&"image".into(), &"UINT8".into(), &json!([3, 1, 8, 8]))
    );
    let seeds = json!({ "name": "seed", "datatype": "UINT64", "shape": [3], "data": [7, 7, u64::MAX] });
    assert_eq!(body["outputs"][1], seeds);
    let levels: Vec<u8> = serde_json::from_value(image["data"].clone()).unwrap();
    // Equal rows are the images 0 and 1 of their seed.
    let two = generate(&app, "class=3&alpha=1.5&seed=7&n=2&format=npy").await.body;
    assert_eq!(levels[..128], two[two.len() - 128..]);
    let bag = generate(&app, &format!("class=Bag&alpha=2&seed={}", u64::MAX)).await;
    assert_eq!(levels[128..], decode(&bag.body).pixels);
}

#[tokio::test]
async fn outputs_are_those_that_are_asked_for() {
    let app = app();
    let wanted = json!([{ "name": "values" }, { "name": "image", "parameters": { "binary_data": false } }]);
    let inputs = [input("class", "INT64", &json!([3])), input("seed", "BYTES", &json!(["7"]))];
    let body = infer(&app, &json!({ "inputs": inputs, "outputs": wanted })).await.json();
    assert_eq!(body["id"], Value::Null);
    let numbers =
        |output: usize| -> Vec<f64> { serde_json::from_value(body["outputs"][output]["data"].clone()).unwrap() };
    assert_eq!((&body["outputs"][0]["name"], &body["outputs"][0]["datatype"]), (&"values".into(), &"FP32".into()));
    for (value, level) in numbers(0).into_iter().zip(numbers(1)) {
        assert!((((value + 1.0) / 2.0).clamp(0.0, 1.0) * 255.0 - level).abs() <= 0.51, "{value} {level}");
    }
    // A seed that is not given is drawn, told, and gives the same again.
    let drawn = infer(&app, &json!({ "inputs": [input("class", "INT64", &json!([3, 3]))] })).await.json();
    let seeds = input("seed", "UINT64", &drawn["outputs"][1]["data"]);
    let again = infer(&app, &json!({ "inputs": [input("class", "INT64", &json!([3, 3])), seeds] })).await.json();
    assert_eq!(drawn, again);
}

#[tokio::test]
async fn a_model_says_what_it_takes_and_gives() {
    let app = app();
    let get = async |address: &str| call(&app, Method::GET, address).await;
    assert_eq!(get("/v2").await.json()["name"], "drifting");
    assert_eq!(get("/v2/health/live").await.json(), json!({ "live": true }));
    assert_eq!(get("/v2/health/ready").await.json(), json!({ "ready": true }));
    assert_eq!(get("/v2/models/fixture/ready").await.json(), json!({ "name": "fixture", "ready": true }));
    let model = get("/v2/models/fixture").await.json();
    assert_eq!((&model["platform"], &model["versions"]), (&"rten_onnx".into(), &json!(["1"])));
    assert_eq!(model["outputs"][0], json!({ "name": "image", "datatype": "UINT8", "shape": [-1, 1, 8, 8] }));
    assert_eq!(get("/v2/models/fixture/versions/1").await.json(), model);
    let body = json!({ "inputs": [input("class", "INT64", &json!([3])), input("seed", "INT64", &json!([7]))] });
    let one = infer_at(&app, "/v2/models/fixture/versions/1/infer", &body).await.json();
    assert_eq!(one, infer(&app, &body).await.json());
}

#[tokio::test]
async fn an_error_is_of_the_protocol() {
    let app = app();
    let plain = Request::post(INFER).header("content-type", "application/octet-stream").body(Body::from("{}")).unwrap();
    let class = |class: i64| json!({ "inputs": [input("class", "INT64", &json!([class]))] });
    let cases = [
        (infer(&app, &json!({})).await, 400, "inputs"),
        (infer(&app, &class(10)).await, 422, "10 classes"),
        (infer(&app, &json!({ "inputs": " ".repeat(20_000) })).await, 413, "longer than"),
        (infer_at(&app, "/v2/models/fixtrue/infer", &class(1)).await, 404, "did you mean \"fixture\""),
        (infer_at(&app, "/v2/models/fixture/versions/2/infer", &class(1)).await, 404, "no version \"2\""),
        (send(&app, plain).await, 415, "application/json"),
        (call(&app, Method::GET, INFER).await, 405, "allow"),
        (call(&app, Method::GET, "/v2/models/fixture/versions/0/ready").await, 404, "no version \"0\""),
        (call(&app, Method::GET, "/v2/repository/index").await, 404, "nothing at"),
        (call(&app, Method::GET, "/v2/models/%ff").await, 404, "no model"),
    ];
    for (answer, status, words) in cases {
        let (found, message) = error(&answer);
        assert!(found == status && message.contains(words), "{found} {message}");
    }
}

#[tokio::test]
async fn limits_hold_for_rows_too() {
    let limits = Limits { max_images: 4, queue: 4, max_batch: 1, ..Limits::default() };
    let app = router(Models::start(vec![scripted_part("fixture")], limits).unwrap());
    let rows = |classes: &[i64]| json!({ "inputs": [input("class", "INT64", &json!(classes))] });
    assert_eq!(error(&infer(&app, &rows(&[0; 5])).await).0, 422);
    let failed = error(&infer(&app, &rows(&[0, FAILING, 0])).await);
    assert!(failed.0 == 500 && !failed.1.contains("secret"), "{failed:?}");
    let (busy, slow) = (app.clone(), rows(&[SLOW, SLOW]));
    let slow = tokio::spawn(async move { infer(&busy, &slow).await });
    let waiting = async || call(&app, Method::GET, "/readyz").await.json()["images_in_queue"].as_u64().unwrap();
    while waiting().await < 2 {
        tokio::task::yield_now().await;
    }
    // Two fit and the third does not: all of them are given up.
    let refused = infer(&app, &rows(&[0, 4, 5])).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert_eq!(infer(&app, &rows(&[0, 4])).await.status, 200);
    assert_eq!(slow.await.unwrap().status, 200);
    let hasty = router(scripted(Limits { request_timeout: PAUSE / 6, ..Limits::default() }));
    assert_eq!(error(&infer(&hasty, &rows(&[SLOW])).await).0, 504);
    let models = scripted(Limits::default());
    models.drain();
    let draining = router(models);
    assert_eq!(error(&infer(&draining, &rows(&[0])).await).0, 503);
    let ready = call(&draining, Method::GET, "/v2/health/ready").await;
    assert_eq!((ready.status.as_u16(), ready.json()), (503, json!({ "ready": false })));
}
