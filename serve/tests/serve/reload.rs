//! Model files that are swapped while the server runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::Method;
use drifting_serve::{Limits, Model, Models, Reloader, ServeSettings, router};
use serde_json::Value;

use crate::client::{call, generate};
use crate::fixture::{self, FLOAT, field, tensor};
use crate::socket;

/// A model file, its server, and what tells that to look at the file again.
struct Site {
    _folder: tempfile::TempDir,
    path: PathBuf,
    reloader: Reloader,
    app: Router,
}

impl Site {
    fn new(file: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        fs::write(&path, file).unwrap();
        let models = Models::open(&settings(&path), &|_| {}).unwrap();
        Self { _folder: folder, path, reloader: models.reloader(), app: router(models) }
    }

    /// Puts another file in the place of the model's.
    fn replace(&self, file: &[u8]) {
        let beside = self.path.with_extension("new");
        fs::write(&beside, file).unwrap();
        fs::rename(beside, &self.path).unwrap();
    }

    /// Has the file looked at, and waits for the end of that; what the list of models then says.
    async fn reload(&self) -> Value {
        let before = self.looks().await;
        self.reloader.reload();
        while self.looks().await == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        call(&self.app, Method::GET, "/models").await.json()["models"][0].clone()
    }

    /// Looks at the file by what came of them.
    async fn counted(&self) -> BTreeMap<String, u64> {
        let text = call(&self.app, Method::GET, "/metrics").await.body;
        let text = String::from_utf8(text.to_vec()).unwrap();
        let counters = text.lines().filter_map(|line| {
            let (result, count) =
                line.strip_prefix("drift_reloads_total{model=\"fixture\",result=\"")?.split_once("\"} ")?;
            Some((result.to_owned(), count.parse().unwrap()))
        });
        counters.collect()
    }

    async fn looks(&self) -> u64 {
        self.counted().await.values().sum()
    }

    async fn serves(&self, file: &[u8]) -> bool {
        let answer = generate(&self.app, "class=3&seed=7").await;
        answer.status == 200 && answer.header("x-model") == sha256(file)
    }
}

fn settings(path: &Path) -> ServeSettings {
    ServeSettings { limits: Limits { queue: 100_000, ..Limits::default() }, ..socket::settings(path.to_owned()) }
}

fn sha256(file: &[u8]) -> String {
    Model::from_bytes(file.to_vec()).unwrap().sha256
}

/// The fixture with another table of classes: all of one value.
fn other(value: f32) -> Vec<u8> {
    fixture::model_with(|parts| {
        let numbers: Vec<u8> = [value; 640].iter().flat_map(|value| value.to_le_bytes()).collect();
        *parts.constants.last_mut().unwrap() = tensor("table", FLOAT, &[10, 1, 8, 8], &numbers);
    })
}

/// The bytes of a model's answers to `queries`.
async fn answers(file: &[u8], queries: &[String]) -> Vec<Bytes> {
    let site = Site::new(file);
    let mut answers = Vec::new();
    for query in queries {
        answers.push(generate(&site.app, query).await.body);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_requests_at_a_time_live_through_swaps() {
    let files = [fixture::model(), other(0.25)];
    let queries: Arc<Vec<_>> = Arc::new((0..20).map(|seed| format!("class=3&seed={seed}&n=24&format=npy")).collect());
    let mut expected = BTreeMap::new();
    for file in &files {
        expected.insert(sha256(file), answers(file, &queries).await);
    }
    let (site, expected) = (Site::new(&files[0]), Arc::new(expected));
    let done = Arc::new(AtomicBool::new(false));
    let clients = (0..200usize).map(|client| {
        let (app, queries, expected, done) = (site.app.clone(), queries.clone(), expected.clone(), done.clone());
        tokio::spawn(async move {
            let mut seen = BTreeMap::<String, usize>::new();
            for turn in client.. {
                let number = turn % queries.len();
                let answer = generate(&app, &queries[number]).await;
                assert_eq!(answer.status, 200, "{answer:?}");
                let model = answer.header("x-model").to_owned();
                // The bytes are those of the model that the header names, not a mixture.
                assert!(answer.body == expected[&model][number], "client {client}, {}", queries[number]);
                *seen.entry(model).or_default() += 1;
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
            seen
        })
    });
    let clients: Vec<_> = clients.collect();
    for swap in 1..=6 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let file = &files[swap % 2];
        site.replace(file);
        assert_eq!(site.reload().await["sha256"], sha256(file), "swap {swap}");
    }
    done.store(true, Ordering::Relaxed);
    let mut seen = BTreeMap::<String, usize>::new();
    for client in clients {
        for (model, count) in client.await.unwrap() {
            *seen.entry(model).or_default() += count;
        }
    }
    println!("answers by model: {seen:?}");
    assert!(seen.len() == 2 && seen.values().all(|&count| count >= 100), "{seen:?}");
    assert_eq!(site.counted().await["swapped"], 6);
    let state = call(&site.app, Method::GET, "/readyz").await.json();
    assert_eq!((&state["status"], &state["images_in_queue"]), (&"ready".into(), &0.into()));
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing_but_the_models_error() {
    let good = fixture::model();
    let site = Site::new(&good);
    let cut = &good[..good.len() / 2];
    let damaged = other(f32::NAN);
    let bad: [(&str, Option<&[u8]>, &str); 4] = [
        ("garbage", Some(b"\x89PNG\r\n"), "drifting export"),
        ("cut short", Some(cut), "cut short"),
        ("not finite", Some(&damaged), "not finite"),
        ("missing", None, "No such file"),
    ];
    for (what, file, words) in bad {
        match file {
            Some(file) => site.replace(file),
            None => fs::remove_file(&site.path).unwrap(),
        }
        let about = site.reload().await;
        let error = about["error"].as_str().unwrap();
        assert!(error.contains(words), "{what}: {error}");
        assert!(!error.contains(site.path.parent().unwrap().to_str().unwrap()), "{error}");
        assert_eq!((&about["state"], &about["sha256"]), (&"ready".into(), &sha256(&good).into()), "{what}");
        assert!(site.serves(&good).await, "{what}");
    }
    assert_eq!(site.counted().await["failed"], 4);
    site.replace(&good);
    let about = site.reload().await;
    assert!(about["error"].is_null() && site.counted().await["unchanged"] == 1, "{about}");
    let next = other(0.5);
    site.replace(&next);
    assert_eq!((&site.reload().await["error"], site.counted().await["swapped"]), (&Value::Null, 1));
    assert!(site.serves(&next).await);
}

#[tokio::test]
async fn counters_go_on_and_the_model_info_follows() {
    let (first, second) = (fixture::model(), other(0.5));
    let site = Site::new(&first);
    assert!(site.serves(&first).await);
    site.replace(&second);
    site.reload().await;
    assert!(site.serves(&second).await);
    let text = call(&site.app, Method::GET, "/metrics").await.body;
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.contains("drift_images_total{model=\"fixture\"} 2\n"), "{text}");
    let info: Vec<_> = text.lines().filter(|line| line.starts_with("drift_model_info{")).collect();
    assert!(info.len() == 1 && info[0].contains(&sha256(&second)), "{info:?}");
}

#[tokio::test]
async fn many_calls_at_once_are_few_looks() {
    let site = Site::new(&fixture::model());
    for _ in 0..10_000 {
        site.reloader.reload();
    }
    let last = other(0.75);
    site.replace(&last);
    site.reload().await;
    // A look that had begun may have ended for the one that was asked for last.
    while !site.serves(&last).await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let looks = site.looks().await;
    assert!((2..5_000).contains(&looks), "{looks}");
}

/// Engines open such files by their paths.
#[tokio::test]
async fn large_files_are_swapped_too() {
    let large = |value: f32| {
        let comment = field(6, &vec![b'x'; 65 << 20]);
        [other(value), comment].concat()
    };
    let (first, second) = (large(0.25), large(0.5));
    let site = Site::new(&first);
    assert!(site.serves(&first).await);
    site.replace(&second);
    assert_eq!(site.reload().await["sha256"], sha256(&second));
    assert!(site.serves(&second).await);
    assert_eq!(
        generate(&site.app, "class=3&seed=7").await.body,
        answers(&second, &["class=3&seed=7".to_owned()]).await[0]
    );
}
