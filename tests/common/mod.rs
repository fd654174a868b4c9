//! The built command in a folder of its own, and as much of an HTTP client as its tests need.

#![allow(dead_code, reason = "not every test uses every helper")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must fail")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A temporary folder in which the command runs.
pub(crate) struct Workspace {
    folder: TempDir,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drifting"));
        command.args(args).current_dir(self.folder.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs the command and returns its standard output; it must succeed.
    pub(crate) fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "drifting {}: {}", args.join(" "), text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs the command and returns its standard error; it must fail without a panic.
    pub(crate) fn fail(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let message = text(&output.stderr);
        assert!(!output.status.success() && !message.contains("panicked"), "drifting {}: {message}", args.join(" "));
        message
    }

    /// Writes the configuration of a run that takes a second.
    pub(crate) fn tiny_config(&self) -> PathBuf {
        let path = self.path("tiny.toml");
        std::fs::write(&path, TINY).unwrap();
        path
    }

    /// Writes the configuration of an encoder that is trained in a second.
    pub(crate) fn encoder_config(&self) -> PathBuf {
        let path = self.path("encoder.toml");
        std::fs::write(&path, ENCODER).unwrap();
        path
    }
}

const ENCODER: &str = r#"
name = "encoder"
steps = 6
data = { embedded = "fashion-mnist" }
batch = { images = 8 }
schedule = { lr = 1e-3 }
ema = { decays = [0.9] }
evaluation = { every = 3, images = 16 }
output = { checkpoint_every = 3, samples_every = 3, metrics_every = 1 }

[mae]
image = { channels = 1, height = 28, width = 28 }
input_patch = 4
base_channels = 8
blocks = [1, 1, 1, 1]
classes = 10
"#;

const TINY: &str = r#"
name = "tiny"
steps = 120
data = { embedded = "fashion-mnist" }
batch = { classes = 4, generated = 4, positives = 8, unconditional = 4 }
features = { keys = ["global", "patch_7", "mean_4"] }
schedule = { lr = 2e-3, warmup_steps = 5 }
ema = { decays = [0.9] }
output = { checkpoint_every = 10, samples_every = 0 }

[generator]
image = { channels = 1, height = 28, width = 28 }
patch = 7
hidden = 32
depth = 2
heads = 2
classes = 10
style_tokens = 4
style_codes = 8
registers = 2
"#;

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Names and bytes of a folder's files.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_string_lossy().into(), std::fs::read(path).unwrap())).collect()
}

/// A running server that ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(workspace: &Workspace, model: &str) -> Self {
        Self::start_with(workspace, &[model])
    }

    /// With these arguments of `drifting serve`.
    pub(crate) fn start_with(workspace: &Workspace, args: &[&str]) -> Self {
        Self::spawn(workspace.command(&[&["serve", "--port", "0"], args].concat()).stderr(Stdio::null()))
    }

    /// A command that serves and prints where.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            let rest = line.split_once("http://")?.1;
            Some(rest.split_once('/')?.0.to_owned())
        });
        Self { child, address: address.expect("the server says where it listens") }
    }

    /// Closes its log, which has to be a pipe, under its hands.
    pub(crate) fn break_log(&mut self) {
        drop(self.child.stderr.take().expect("a log that is a pipe"));
    }

    /// Sends the signal of this name, such as HUP.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Sends one request; returns status, headers (lower case) and body.
    pub(crate) fn request(&self, method: &str, target: &str) -> (u16, BTreeMap<String, String>, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head =
            format!("{method} {target} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a complete head");
        let head = text(&answer[..end]);
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned()));
        (status, headers.collect(), answer[end + 4..].to_vec())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
