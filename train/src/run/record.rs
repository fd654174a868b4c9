//! `run.json`: what was trained, with which program, on which machine, from when to when.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use drifting_models::weights::write_bytes;
use serde::{Deserialize, Serialize};

use super::{Facts, RunError};
use crate::config::RunSettings;

/// The program that trains; known when it is built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Version of the command.
    pub version: String,
    /// Commit of the sources, `unknown` outside a repository.
    pub commit: String,
    /// Whether the sources differed from that commit.
    pub dirty: bool,
    /// Version of the compiler.
    pub rustc: String,
    /// Version of candle.
    pub candle: String,
}

/// The machine that a part of a run was taken on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) os: String,
}

/// One call of the command: a run that was stopped has several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) command: Vec<String>,
    pub(super) build: Build,
    pub(super) machine: Machine,
    /// UTC.
    pub(super) started: String,
    pub(super) from_step: u64,
    /// UTC; absent for a call that is under way or was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to_step: Option<u64>,
    /// `finished`, `stopped`, or what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<String>,
}

/// Contents of `run.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RunJson {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) seed: u64,
    #[serde(flatten)]
    pub(super) facts: Facts,
    #[serde(default)]
    pub(super) starts: Vec<Start>,
}

impl RunJson {
    pub(super) fn new(settings: &dyn RunSettings, facts: Facts, starts: Vec<Start>) -> Self {
        let (kind, name) = (settings.kind().to_owned(), settings.name().to_owned());
        Self { kind, name, seed: settings.seed(), facts, starts }
    }

    pub(super) fn read(path: &Path) -> Result<Option<Self>, RunError> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(path).map_err(RunError::io(path))?;
        serde_json::from_str(&text).map(Some).map_err(|error| RunError::file(path, error.to_string()))
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), RunError> {
        let json = serde_json::to_string_pretty(self).map_err(|error| RunError::file(path, error.to_string()))?;
        Ok(write_bytes(path, format!("{json}\n").as_bytes())?)
    }
}

impl Machine {
    /// This machine, as far as the system tells.
    pub(super) fn here() -> Self {
        let value = |text: &str, key: &str, separator: char| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(separator)?.1.trim().trim_matches('"').to_owned())
        };
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = value(&read("/proc/cpuinfo"), "model name", ':');
        let name = value(&read("/etc/os-release"), "PRETTY_NAME", '=');
        let kernel = read("/proc/sys/kernel/osrelease");
        let os = format!("{} {}", name.unwrap_or_else(|| std::env::consts::OS.to_owned()), kernel.trim());
        Self {
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            os: os.trim().to_owned(),
        }
    }
}

/// The time in UTC, such as `2026-11-22T00:58:14Z`.
pub(super) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    utc(seconds)
}

/// Seconds since 1970 as a date of the Gregorian calendar.
fn utc(seconds: u64) -> String {
    let (mut days, clock) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", days + 1, clock / 3600, clock / 60 % 60, clock % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }

    #[test]
    fn the_machine_is_named() {
        let machine = Machine::here();
        assert!(machine.cores > 0 && !machine.cpu.is_empty() && !machine.os.is_empty());
    }
}
