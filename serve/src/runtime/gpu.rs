//! Which NVIDIA GPUs this machine has, as far as its driver tells.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

/// One NVIDIA GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Its number, as in `--device`.
    pub index: u32,
    /// Its name, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability, such as `9.0`, where the driver tells it.
    pub capability: Option<String>,
    /// Version of the driver.
    pub driver: String,
}

/// The GPUs of this machine: what `nvidia-smi` lists, else what the driver writes under `/proc`. None is not an error.
#[must_use]
pub fn gpus() -> Vec<Gpu> {
    let query = ["--query-gpu=index,name,compute_cap,driver_version", "--format=csv,noheader"];
    let output = Command::new("nvidia-smi").args(query).stdin(Stdio::null()).output();
    let listed = output.ok().filter(|output| output.status.success());
    let listed = listed.map(|output| parse(&String::from_utf8_lossy(&output.stdout)));
    listed.filter(|gpus| !gpus.is_empty()).unwrap_or_else(|| from_proc(Path::new("/proc/driver/nvidia")))
}

/// Lines of `nvidia-smi`: index, name, capability, driver.
fn parse(text: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [index, name, capability, driver] = fields[..] else { return None };
        let capability = Some(capability.to_owned()).filter(|text| text.starts_with(|c: char| c.is_ascii_digit()));
        Some(Gpu { index: index.parse().ok()?, name: name.to_owned(), capability, driver: driver.to_owned() })
    };
    text.lines().filter_map(gpu).collect()
}

/// The files `gpus/*/information` and `version` of the driver's folder.
fn from_proc(folder: &Path) -> Vec<Gpu> {
    let version = fs::read_to_string(folder.join("version")).unwrap_or_default();
    let words = version.lines().next().unwrap_or_default().split_whitespace();
    let number = |word: &&str| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let driver = words.into_iter().find(number).unwrap_or("unknown").to_owned();
    let Ok(entries) = fs::read_dir(folder.join("gpus")) else { return Vec::new() };
    // By bus address, which is the order in which the driver counts them.
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path().join("information"))).collect();
    paths.sort();
    let model = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        let name = text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned();
        Some(name)
    };
    let names = paths.iter().filter_map(model).enumerate();
    names.map(|(index, name)| Gpu { index: index as u32, name, capability: None, driver: driver.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_driver_are_read() {
        let text = "0, NVIDIA H100 80GB HBM3, 9.0, 580.95.05\n1, Tesla T4, [N/A], 535.1\nno devices were found\n";
        let gpus = parse(text);
        assert_eq!(gpus.len(), 2);
        assert_eq!((gpus[0].name.as_str(), gpus[0].capability.as_deref()), ("NVIDIA H100 80GB HBM3", Some("9.0")));
        assert_eq!((gpus[1].index, gpus[1].capability.as_deref(), gpus[1].driver.as_str()), (1, None, "535.1"));
        assert!(parse("").is_empty());
    }

    #[test]
    fn files_of_the_driver_are_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(from_proc(folder.path()).is_empty());
        let version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Release Build\nGCC version: 12.2.0\n";
        fs::write(folder.path().join("version"), version).unwrap();
        for (bus, name) in [("0000:41:00.0", "NVIDIA L4"), ("0000:01:00.0", "NVIDIA A10")] {
            let gpu = folder.path().join("gpus").join(bus);
            fs::create_dir_all(&gpu).unwrap();
            fs::write(gpu.join("information"), format!("Model: \t\t {name}\nIRQ:   1\n")).unwrap();
        }
        let gpus = from_proc(folder.path());
        let told: Vec<_> = gpus.iter().map(|gpu| (gpu.index, gpu.name.as_str(), gpu.driver.as_str())).collect();
        assert_eq!(told, [(0, "NVIDIA A10", "580.95.05"), (1, "NVIDIA L4", "580.95.05")]);
    }
}
