//! An artefact from a hub: one that this test plays, on this machine.

#![allow(clippy::unwrap_used, reason = "a test ends there")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use drifting_models::weights::hub::{AUTHORS, HubSettings, fetch};
use drifting_models::weights::import_generator;
use sha2::{Digest, Sha256};

const FOLDER: &str = "models/gen/jax/ablation";

/// What the hub does to the files it sends.
#[derive(Clone, Copy, PartialEq)]
enum Conduct {
    Honest,
    /// Sends other bytes than it announces.
    Altered,
    /// Names its files so that they would be written elsewhere.
    Traversing,
    /// Answers as an ordinary web server does.
    Ordinary,
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers one request for a file.
fn answer(stream: &mut TcpStream, files: &BTreeMap<String, Vec<u8>>, conduct: Conduct) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let name = path.strip_prefix(&format!("/{AUTHORS}/resolve/main/")).unwrap_or_default();
    let Some(bytes) = files.get(name) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    let range = headers.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let (start, end) = range.as_deref().unwrap().split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end: usize = end.parse().map_or(bytes.len(), |last: usize| last + 1);
    let etag = if conduct == Conduct::Traversing { "../../../owned".to_owned() } else { hash(bytes) };
    let hub = format!("etag: \"{etag}\"\r\nx-repo-commit: 0123456789abcdef\r\n");
    let mut sent = bytes[start..end].to_vec();
    if conduct == Conduct::Altered {
        sent.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\n{}content-range: bytes {start}-{}/{}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        if conduct == Conduct::Ordinary { "" } else { &hub },
        end - 1,
        bytes.len(),
        sent.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&sent)
}

/// Starts a hub with the golden artefact; it ends with the test.
fn hub(conduct: Conduct, cache: &Path) -> HubSettings {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/generator");
    let read = |name: &str| (format!("{FOLDER}/{name}"), fs::read(golden.join(name)).unwrap());
    let files = BTreeMap::from(["metadata.json", "ema_params.msgpack"].map(read));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A client that goes away in between is none of the hub's business.
            let _ = answer(&mut stream, &files, conduct);
        }
    });
    HubSettings { endpoint, cache: cache.to_owned(), offline: None, proxy: false, patience: Duration::from_secs(10) }
}

/// All files below a folder.
fn count(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>());
    let entries = entries.unwrap_or_default();
    entries.iter().map(|path| if path.is_dir() && !path.is_symlink() { count(path) } else { 1 }).sum()
}

#[test]
fn an_artefact_is_fetched_once_and_imported() {
    let cache = tempfile::tempdir().unwrap();
    let settings = hub(Conduct::Honest, cache.path());
    let mut told = Vec::new();
    let folder = fetch(&settings, AUTHORS, "ablation", &mut |fetched| told.push(fetched.clone())).unwrap();
    let last = told.last().unwrap();
    assert!(last.name.ends_with("ema_params.msgpack") && last.done == last.all && last.all > 500_000, "{last:?}");
    let generator = import_generator(&folder).unwrap();
    assert_eq!((generator.step, generator.ema_decay), (7, Some(0.999)));

    // The second time comes from the cache: no network is needed, and by its whole path just as well.
    let offline = HubSettings { offline: Some("DRIFTING_OFFLINE"), ..settings };
    for name in ["ablation", FOLDER] {
        assert_eq!(fetch(&offline, AUTHORS, name, &mut |_| unreachable!()).unwrap(), folder);
    }
}

#[test]
fn what_a_hub_does_wrong_is_told_and_not_kept() {
    for (conduct, problem) in [
        (Conduct::Altered, "what came is not what the hub announced"),
        (Conduct::Traversing, "its answer is not one of a hub"),
        (Conduct::Ordinary, "etag"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let settings = hub(conduct, cache.path());
        let error = fetch(&settings, AUTHORS, "ablation", &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        assert!(fetch(&settings, AUTHORS, "ablation", &mut |_| {}).is_err(), "nothing was taken from the cache");
        assert!(!cache.path().parent().unwrap().join("owned").exists());
        assert!(count(cache.path()) <= 3, "{} files are left", count(cache.path()));
    }
    let cache = tempfile::tempdir().unwrap();
    let error =
        fetch(&hub(Conduct::Honest, cache.path()), AUTHORS, "latent_B_sota", &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("holds no models/gen/jax/latent_B_sota/metadata.json"), "{error}");
}
