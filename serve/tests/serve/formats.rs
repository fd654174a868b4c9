//! Every format of an answer holds the same images.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use drifting_serve::{Limits, router};
use image::ImageDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::webp::WebPDecoder;
use serde_json::{Value, json};

use crate::client::{Answer, app, call, debase64, decode, error, generate, scripted, send};

/// Levels and, from the Exif, the origin.
fn open(mut decoder: impl ImageDecoder) -> (Vec<u8>, Value) {
    let exif = decoder.exif_metadata().unwrap().unwrap();
    let text = String::from_utf8_lossy(&exif);
    let json = &text[text.find('{').unwrap()..=text.find('}').unwrap()];
    let mut pixels = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut pixels).unwrap();
    (pixels, serde_json::from_str(json).unwrap())
}

#[tokio::test]
async fn every_format_holds_the_same_images() {
    let app = app();
    let ask = async |format: &str| {
        let answer = generate(&app, &format!("class=3&seed=7&n=5&grid=2&format={format}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{format}");
        answer
    };
    let png = ask("png").await;
    let sheet = decode(&png.body);
    assert_eq!((sheet.width, sheet.height), (18, 28));
    let origin = json!({
        "seed": 7, "index": "0-4", "class": 3, "class_name": "Dress", "alpha": 1.5, "model": png.header("x-model"),
    });

    let webp = ask("webp").await;
    assert_eq!(webp.header("content-type"), "image/webp");
    let (pixels, about) = open(WebPDecoder::new(std::io::Cursor::new(&webp.body)).unwrap());
    assert!(pixels.chunks(3).zip(&sheet.pixels).all(|(pixel, &level)| pixel == [level; 3]));
    assert_eq!((pixels.len(), about), (3 * sheet.pixels.len(), origin.clone()));

    let jpeg = ask("jpeg").await;
    assert_eq!(jpeg.header("content-type"), "image/jpeg");
    let (pixels, about) = open(JpegDecoder::new(std::io::Cursor::new(&jpeg.body)).unwrap());
    let apart: f64 = pixels.iter().zip(&sheet.pixels).map(|(&a, &b)| f64::from(a.abs_diff(b))).sum();
    // Noise is what JPEG is worst at.
    assert!(apart / (pixels.len() as f64) < 8.0, "{apart}");
    assert_eq!((pixels.len(), about), (sheet.pixels.len(), origin));
    assert_eq!(ask("jpeg").await.body, jpeg.body);
}

#[tokio::test]
async fn an_array_has_the_levels_of_the_single_images() {
    let app = app();
    let npy = generate(&app, "class=2&seed=9&n=3&format=npy").await;
    assert_eq!((npy.status, npy.header("content-type")), (StatusCode::OK, "application/x-npy"));
    let header = String::from_utf8_lossy(&npy.body[10..128]);
    assert!(header.contains("'descr': '|u1'") && header.contains("'shape': (3, 8, 8, 1)"), "{header}");
    let json = generate(&app, "class=2&seed=9&n=3&format=json").await.json();
    let images = json["images"].as_array().unwrap().iter().map(|image| debase64(image["png"].as_str().unwrap()));
    let expected: Vec<u8> = images.flat_map(|file| decode(&file).pixels).collect();
    assert_eq!(npy.body[128..], expected);
}

#[tokio::test]
async fn a_sheet_has_the_columns_that_were_asked_for() {
    let app = app();
    let size = async |query: &str| {
        let picture = decode(&generate(&app, &format!("class=1&seed=3&{query}")).await.body);
        (picture.width, picture.height)
    };
    assert_eq!(size("n=6").await, (28, 18));
    assert_eq!(size("n=6&grid=0").await, (28, 18));
    assert_eq!(size("n=6&grid=1").await, (8, 58));
    assert_eq!(size("n=6&grid=4").await, (38, 18));
    assert_eq!(size("n=6&grid=64").await, (58, 8));
    assert_eq!(size("n=1&grid=5").await, (8, 8));
    for format in ["json", "npy"] {
        let answer = generate(&app, &format!("class=1&grid=2&format={format}")).await;
        assert_eq!(error(&answer), (422, "out_of_range".to_owned(), Some("grid".to_owned())));
    }
}

async fn accepting(query: &str, accept: &str) -> Answer {
    let request = Request::builder().method(Method::POST).uri(format!("/generate?class=1&seed=3{query}"));
    send(&app(), request.header("accept", accept).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn accept_counts_where_no_format_is_given() {
    let kinds = [
        ("", "*/*", "image/png"),
        ("", "image/webp,image/*;q=0.5", "image/webp"),
        ("", "application/json", "application/json"),
        ("", "application/x-npy", "application/x-npy"),
        ("&format=jpeg", "application/json", "image/jpeg"),
        ("&format=png", "text/html", "image/png"),
    ];
    for (query, accept, kind) in kinds {
        assert_eq!(accepting(query, accept).await.header("content-type"), kind, "{query} {accept}");
    }
    let refused = accepting("", "text/html, image/gif").await;
    assert_eq!(error(&refused), (406, "not_acceptable".to_owned(), None));
    assert_eq!(refused.json()["error"]["allowed"][0], "image/png");
}

#[tokio::test]
async fn a_sheet_that_a_format_cannot_hold_is_refused_at_once() {
    let limits = Limits { max_images: 6600, queue: 6600, ..Limits::default() };
    let app = router(scripted(limits));
    for (format, n, status) in [("webp", 1639, 422), ("webp", 1638, 200), ("jpeg", 6554, 422), ("png", 1639, 200)] {
        let answer = generate(&app, &format!("class=0&grid=1&n={n}&format={format}")).await;
        assert_eq!(answer.status.as_u16(), status, "{format} {n}");
        if status == 422 {
            assert_eq!(error(&answer).2.as_deref(), Some("format"));
            assert!(answer.json()["error"]["message"].as_str().unwrap().contains("8 x "));
        }
    }
    assert_eq!(call(&app, Method::GET, "/healthz").await.json()["images_in_queue"], 0);
}
