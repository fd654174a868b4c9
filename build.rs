//! What the program is built from, for `run.json`: commit, compiler, candle.
//!
//! `DRIFTING_COMMIT` stands in for the commit where the sources are built outside their repository.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=DRIFTING_COMMIT");
    for place in ["src", "models", "train", "export", "serve", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={place}");
    }
    // A commit that changes no file moves this one.
    if let Some(log) = output("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let given = std::env::var("DRIFTING_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.clone().or_else(|| output("git", &["rev-parse", "HEAD"])).unwrap_or_else(|| "unknown".into());
    let dirty = given.is_none() && output("git", &["status", "--porcelain"]).is_some();
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let rustc = output(&compiler, &["--version"]).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=DRIFTING_COMMIT={commit}");
    println!("cargo:rustc-env=DRIFTING_DIRTY={dirty}");
    println!("cargo:rustc-env=DRIFTING_RUSTC={rustc}");
    println!("cargo:rustc-env=DRIFTING_CANDLE={}", candle().unwrap_or_else(|| "unknown".into()));
}

/// What a program says; `None` when it fails or says nothing.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let found = Command::new(program).args(args).output().ok().filter(|found| found.status.success())?;
    let text = String::from_utf8(found.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// The version of candle in the lock file.
fn candle() -> Option<String> {
    let lock = std::fs::read_to_string("Cargo.lock").ok()?;
    let rest = lock.split_once("name = \"candle-core\"\nversion = \"")?.1;
    Some(rest.split_once('"')?.0.to_owned())
}
