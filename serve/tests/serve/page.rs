//! The pages for people, clicked through in a browser: serve/tests/page/ has the steps.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use drifting_serve::Server;

use crate::{fixture, socket};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of the packages that the steps need, a browser among them.
fn packages() -> String {
    let made = Command::new("tools/node-modules").arg("serve/tests/page").current_dir(workspace()).output();
    let made = made.unwrap_or_else(|error| panic!("tools/node-modules cannot be started: {error}"));
    let problem = String::from_utf8_lossy(&made.stderr);
    assert!(
        made.status.success(),
        "node (20 or newer), npm and a registry are needed for this test, to install a browser and what drives it; \
         DRIFTING_OFFLINE=1 leaves it out.\n{problem}"
    );
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn steps(folder: &str, server: SocketAddr) -> Output {
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=spec", "serve/tests/page/page.test.mjs"]).current_dir(workspace());
    command.env("NODE_FOLDER", folder).env("PAGE_ADDRESS", format!("http://{server}/"));
    command.output().unwrap_or_else(|error| panic!("node cannot be started: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn people_can_use_the_pages() {
    if std::env::var("DRIFTING_OFFLINE").is_ok_and(|value| value == "1") {
        println!("skipped: DRIFTING_OFFLINE=1");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::bind(&socket::settings(fixture::model_file(folder.path())), &|_| {}).unwrap();
    let address = server.local_addr();
    let running = tokio::spawn(server.run(std::future::pending()));
    let outcome = tokio::task::spawn_blocking(move || steps(&packages(), address)).await.unwrap();
    running.abort();
    let told = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{told}\n{}", String::from_utf8_lossy(&outcome.stderr));
    // A run that found no steps would end well too.
    let passed = told.lines().find_map(|line| line.trim_start_matches(['ℹ', '#', ' ']).strip_prefix("pass "));
    assert!(passed.is_some_and(|count| count.parse().is_ok_and(|count: u32| count >= 25)), "{told}");
}
