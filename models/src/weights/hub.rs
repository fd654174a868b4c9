//! Published artefacts from the Hugging Face hub: only when asked for, and with an end to waiting.

use std::env;
use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo};

use super::file::hex;
use super::import::{METADATA_FILE, TREE_FILE};
use crate::{Error, Result};

/// The authors' repository.
pub const AUTHORS: &str = "Goodeat/drifting";

/// The artefacts that the authors' repository holds, by name and folder.
pub const ARTEFACTS: [(&str, &str); 8] = [
    ("latent_L_sota", "models/gen/jax/latent_L_sota"),
    ("latent_B_sota", "models/gen/jax/latent_B_sota"),
    ("pixel_L_sota", "models/gen/jax/pixel_L_sota"),
    ("pixel_B_sota", "models/gen/jax/pixel_B_sota"),
    ("ablation", "models/gen/jax/ablation"),
    ("mae_latent_640", "models/mae/jax/mae_latent_640"),
    ("mae_latent_256", "models/mae/jax/mae_latent_256"),
    ("mae_pixel_640", "models/mae/jax/mae_pixel_640"),
];

/// What is known of the terms of published weights; said before anything is fetched.
pub const TERMS: &str = "\
These weights are not part of drifting and not under its licence. The authors' code repository states no licence; the terms of \
the weights, if any are stated, are those of the hub's page of the repository: read it before you use them or pass them on. \
Importing changes names and layout of the numbers, not their terms.";

const OFFLINE_VARIABLES: [&str; 2] = ["DRIFTING_OFFLINE", "HF_HUB_OFFLINE"];
const PROXY_VARIABLES: [&str; 6] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];

/// Where the hub is and how long it is waited for.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Address of the hub.
    pub endpoint: String,
    /// Folder of everything that was fetched before, shared with other programs of the hub.
    pub cache: PathBuf,
    /// The variable that forbids the network, if one does.
    pub offline: Option<&'static str>,
    /// Whether a proxy stands between, so that the hub itself cannot be reached.
    pub proxy: bool,
    /// How long a connection, and then every next byte, may take.
    pub patience: Duration,
}

impl HubSettings {
    /// The settings that all programs of the hub read: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`; and
    /// `DRIFTING_OFFLINE=1`.
    #[must_use]
    pub fn from_env() -> Self {
        let on = |name: &&&str| env::var(**name).is_ok_and(|value| matches!(value.as_str(), "1" | "true" | "TRUE"));
        Self {
            endpoint: env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".to_owned()),
            cache: Cache::from_env().path().clone(),
            offline: OFFLINE_VARIABLES.iter().find(on).copied(),
            proxy: PROXY_VARIABLES.iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty())),
            patience: Duration::from_secs(20),
        }
    }
}

/// Bytes of a file that have come, and all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The file.
    pub name: String,
    /// Bytes so far.
    pub done: u64,
    /// All bytes.
    pub all: u64,
}

/// The folder of an artefact (`metadata.json` beside `ema_params.msgpack`) that `name` calls: a name of [`ARTEFACTS`], or a
/// folder in the repository. Fetches what is not in the cache; `told` hears of every part that comes.
///
/// # Errors
/// A name that is no path, a network that is forbidden, absent or too slow, an answer that is no artefact, a file of another
/// length or SHA-256 than the hub says.
pub fn fetch(settings: &HubSettings, repo: &str, name: &str, told: &mut dyn FnMut(&Fetched)) -> Result<PathBuf> {
    let hub = |problem: String| Error::Hub { place: format!("{repo} at {}", settings.endpoint), problem };
    let folder = folder_of(name).map_err(hub)?;
    plain_path(repo).map_err(hub)?;
    let files = [METADATA_FILE, TREE_FILE].map(|file| format!("{folder}/{file}"));
    let cache = Cache::new(settings.cache.clone()).repo(Repo::model(repo.to_owned()));
    let cached: Vec<_> = files.iter().filter_map(|file| cache.get(file)).collect();
    let path = match cached.as_slice() {
        [_, path] => path.clone(),
        _ => download(settings, repo, &files, told).map_err(hub)?,
    };
    path.parent().map(Path::to_owned).ok_or_else(|| hub("its file lies nowhere".to_owned()))
}

fn folder_of(name: &str) -> std::result::Result<&str, String> {
    if let Some((_, folder)) = ARTEFACTS.iter().find(|(known, _)| *known == name) {
        return Ok(folder);
    }
    if !name.contains('/') {
        let known: Vec<_> = ARTEFACTS.iter().map(|(known, _)| *known).collect();
        return Err(format!(
            "no artefact is called {name:?}: {} are; or name a folder in the repository",
            known.join(", ")
        ));
    }
    plain_path(name).map(|()| name)
}

/// Refuses what would be another place in an address or on the disk.
fn plain_path(path: &str) -> std::result::Result<(), String> {
    let part = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    if path.split('/').all(part) {
        Ok(())
    } else {
        Err(format!("{path:?} is no name of a repository or a folder in one"))
    }
}

/// What the thread that fetches tells.
enum Message {
    Fetched(Fetched),
    Done(std::result::Result<PathBuf, String>),
}

/// Fetches `files` on a thread of its own, which is left behind if it hangs; returns the path of the last one.
fn download(
    settings: &HubSettings,
    repo: &str,
    files: &[String],
    told: &mut dyn FnMut(&Fetched),
) -> std::result::Result<PathBuf, String> {
    if let Some(variable) = settings.offline {
        return Err(format!("{variable} forbids the network; unset it, or import a folder that you have"));
    }
    if !settings.proxy {
        reach(&settings.endpoint, settings.patience)?;
    }
    let (sender, receiver) = mpsc::channel();
    let (settings_, repo, files) = (settings.clone(), repo.to_owned(), files.to_vec());
    let work = move || {
        let result = files.iter().try_fold(PathBuf::new(), |_, file| get(&settings_, &repo, file, &sender));
        // Nobody listens to a thread that was left behind.
        let _ = sender.send(Message::Done(result));
    };
    thread::Builder::new().name("hub".to_owned()).spawn(work).map_err(|error| error.to_string())?;
    loop {
        match receiver.recv_timeout(settings.patience) {
            Ok(Message::Fetched(fetched)) => told(&fetched),
            Ok(Message::Done(result)) => return result,
            Err(RecvTimeoutError::Timeout) => {
                return Err(format!("nothing came for {} s; try again", settings.patience.as_secs_f32()));
            }
            Err(RecvTimeoutError::Disconnected) => return Err("its answer is not one of a hub".to_owned()),
        }
    }
}

/// Whether the endpoint answers at all, within `patience`: a missing network is told at once.
fn reach(endpoint: &str, patience: Duration) -> std::result::Result<(), String> {
    let offline = |problem: &str| {
        Err(format!(
            "cannot be reached ({problem}). Is this machine online? A folder that was fetched elsewhere can be imported"
        ))
    };
    let (secure, rest) = match (endpoint.strip_prefix("https://"), endpoint.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Err("the endpoint is no address that begins with https://".to_owned()),
    };
    let host = rest.split('/').next().unwrap_or_default();
    let port = if secure { 443 } else { 80 };
    let address = if host.rsplit(']').next().is_some_and(|end| end.contains(':')) {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        let resolved = address.to_socket_addrs().map_err(|error| error.to_string());
        let reached = resolved.and_then(|addresses| {
            let mut problem = "it has no address".to_owned();
            for address in addresses {
                match TcpStream::connect_timeout(&address, patience) {
                    Ok(_) => return Ok(()),
                    Err(error) => problem = error.to_string(),
                }
            }
            Err(problem)
        });
        let _ = sender.send(reached);
    };
    thread::Builder::new().name("hub".to_owned()).spawn(work).map_err(|error| error.to_string())?;
    match receiver.recv_timeout(patience) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(problem)) => offline(&problem),
        Err(_) => offline(&format!("no answer within {} s", patience.as_secs_f32())),
    }
}

/// One file, checked.
fn get(
    settings: &HubSettings,
    repo: &str,
    file: &str,
    sender: &Sender<Message>,
) -> std::result::Result<PathBuf, String> {
    let explain = |error: hf_hub::api::sync::ApiError| match error.to_string() {
        text if text.contains("404") => format!("holds no {file}"),
        text if text.contains("401") || text.contains("403") => format!("{file} is not open to everybody: {text}"),
        text => format!("{file}: {text}"),
    };
    let builder = ApiBuilder::from_cache(Cache::new(settings.cache.clone()));
    let api: Api = builder.with_endpoint(settings.endpoint.clone()).build().map_err(explain)?;
    let repository: ApiRepo = api.model(repo.to_owned());
    let about = api.metadata(&repository.url(file)).map_err(explain)?;
    // Both become names of files.
    if [about.etag(), about.commit_hash()].into_iter().any(|name| plain_path(name).is_err() || name.contains('/')) {
        return Err(format!("{file}: its answer is not one of a hub"));
    }
    let ticker = Ticker { sender: sender.clone(), fetched: Fetched { name: file.to_owned(), done: 0, all: 0 } };
    let path = repository.download_with_progress(file, ticker).map_err(explain)?;
    let problem = |error: std::io::Error| format!("{}: {error}", path.display());
    let length = fs::metadata(&path).map_err(problem)?.len();
    // Large files are named by the hash of what they hold.
    let is_hash = about.etag().len() == 64 && about.etag().chars().all(|c| c.is_ascii_hexdigit());
    let other = is_hash && hex(&fs::read(&path).map_err(problem)?) != about.etag().to_ascii_lowercase();
    if other || length != about.size() as u64 {
        // What is wrong must not be found in the cache next time.
        let blob = fs::canonicalize(&path).map_err(problem)?;
        fs::remove_file(&path).and_then(|()| fs::remove_file(blob)).map_err(problem)?;
        return Err(format!("{file}: what came is not what the hub announced ({length} bytes); try again"));
    }
    Ok(path)
}

/// Passes the progress of a file on.
struct Ticker {
    sender: Sender<Message>,
    fetched: Fetched,
}

impl Progress for Ticker {
    fn init(&mut self, size: usize, _: &str) {
        (self.fetched.done, self.fetched.all) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.fetched.done += size as u64;
        let _ = self.sender.send(Message::Fetched(self.fetched.clone()));
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn settings(folder: &Path) -> HubSettings {
        HubSettings {
            endpoint: "http://127.0.0.1:9".to_owned(),
            cache: folder.to_owned(),
            offline: None,
            proxy: false,
            patience: Duration::from_secs(2),
        }
    }

    fn problem(settings: &HubSettings, repo: &str, name: &str) -> String {
        fetch(settings, repo, name, &mut |_| {}).unwrap_err().to_string()
    }

    #[test]
    fn without_a_network_the_error_is_quick_and_clear() {
        let folder = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let closed = problem(&settings(folder.path()), AUTHORS, "ablation");
        assert!(closed.starts_with("Goodeat/drifting at http://127.0.0.1:9: cannot be reached ("), "{closed}");
        assert!(closed.contains("Is this machine online?"), "{closed}");
        let absent = HubSettings { endpoint: "https://hub.invalid".to_owned(), ..settings(folder.path()) };
        assert!(problem(&absent, AUTHORS, "ablation").contains("cannot be reached ("));
        let forbidden = HubSettings { offline: Some("DRIFTING_OFFLINE"), ..settings(folder.path()) };
        assert!(problem(&forbidden, AUTHORS, "ablation").contains("DRIFTING_OFFLINE forbids the network"));
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_hub_that_says_nothing_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let patience = Duration::from_millis(300);
        let waiting = HubSettings { endpoint, patience, ..settings(folder.path()) };
        assert!(problem(&waiting, AUTHORS, "ablation").contains("nothing came for 0.3 s"));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |repo: &str, name: &str| problem(&settings(folder.path()), repo, name);
        for name in ["../x", "a//b", "/etc", "a/../b", "a/b?x", "a/.b"] {
            assert!(refused(AUTHORS, name).contains("is no name of a repository"), "{name}");
        }
        assert!(refused("a/../../b", "ablation").contains("is no name of a repository"));
        assert!(refused(AUTHORS, "sota").contains("no artefact is called \"sota\": latent_L_sota, "));
    }
}
