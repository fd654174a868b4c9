//! Several engines for one model.

use std::num::NonZeroUsize;
use std::time::Instant;

use axum::http::Method;
use drifting_serve::{Limits, Models, Part, ServeSettings, router};

use crate::client::{PAUSE, SLOW, app, call, generate, scripted_part};
use crate::{fixture, socket};

#[tokio::test(flavor = "multi_thread")]
async fn replicas_compute_at_the_same_time() {
    let parts = [scripted_part("a"), scripted_part("a"), scripted_part("a")];
    let engines = parts.map(|part| part.engines).into_iter().flatten().collect();
    let part = Part { engines, ..scripted_part("a") };
    let app = router(Models::start(vec![part], Limits { max_batch: 1, ..Limits::default() }).unwrap());
    let begun = Instant::now();
    let slow = (0..3).map(|_| {
        let app = app.clone();
        tokio::spawn(async move { generate(&app, &format!("class={SLOW}")).await.status.as_u16() })
    });
    for answer in slow.collect::<Vec<_>>() {
        assert_eq!(answer.await.unwrap(), 200);
    }
    assert!(begun.elapsed() < PAUSE * 2, "{:?}", begun.elapsed());
    assert_eq!(call(&app, Method::GET, "/info").await.json()["replicas"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_does_not_depend_on_which_replica_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ServeSettings {
        replicas: NonZeroUsize::new(3).unwrap(),
        limits: Limits { queue: 2000, ..Limits::default() },
        ..socket::settings(fixture::model_file(folder.path()))
    };
    let (one, several) = (app(), router(Models::open(&settings, &|_| {}).unwrap()));
    let expected = generate(&one, "class=3&seed=7&n=64&format=npy").await.body;
    let crowd = (0..24).map(|_| {
        let app = several.clone();
        tokio::spawn(async move { generate(&app, "class=3&seed=7&n=64&format=npy").await })
    });
    for answer in crowd.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        assert!(answer.status == 200 && answer.body == expected, "{}", answer.status);
    }
}
