//! A server in a process of its own, and the model that it serves.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Answer, Connection};
use crate::common::Workspace;

/// One test of this file at a time: they measure.
static TURN: Mutex<()> = Mutex::new(());

/// A server that ends with the test.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: String,
    workspace: Workspace,
    _turn: MutexGuard<'static, ()>,
}

/// The shipped model, exported once.
pub(crate) fn model() -> String {
    static MODEL: OnceLock<(Workspace, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let workspace = Workspace::new();
        workspace.succeed(&["export", "fashion", "--out", "fashion.onnx"]);
        let path = workspace.path("fashion.onnx");
        (workspace, path)
    });
    path.to_str().unwrap().to_owned()
}

impl Running {
    /// The shipped model in ONNX Runtime, which is fetched once where it is not there.
    pub(crate) fn start(flags: &[&str]) -> Self {
        let model = model();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let workspace = Workspace::new();
        let fixed = ["serve", &model, "--port", "0", "--engine", "onnxruntime"];
        let mut command = workspace.command(&[&fixed[..], flags].concat());
        let log = File::create(workspace.path("log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            let rest = line.split_once("http://")?.1;
            Some(rest.split_once('/')?.0.to_owned())
        });
        let address = address.unwrap_or_else(|| panic!("{}", std::fs::read_to_string(workspace.path("log")).unwrap()));
        Self { child, address, workspace, _turn: turn }
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.address).unwrap()
    }

    /// The answer to `POST /generate` on a connection of its own.
    pub(crate) fn generate(&self, query: &str) -> Answer {
        self.connect().post(&format!("/generate?{query}")).unwrap()
    }

    /// What stands at `path`.
    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.connect().get(path).unwrap().body).unwrap()
    }

    /// Images that wait or are being computed.
    pub(crate) fn busy(&self) -> u64 {
        self.json("/readyz")["images_in_queue"].as_u64().unwrap()
    }

    /// What was logged; nothing of it is a panic.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.workspace.path("log")).unwrap();
        let panic = log.lines().find(|line| line.contains("panicked"));
        assert_eq!(panic, None);
        log
    }

    /// Memory in use, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Tells it to stop, as service managers do.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// How it ended; it must within `limit`.
    pub(crate) fn end(&mut self, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("still running after {limit:?}: {}", self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
