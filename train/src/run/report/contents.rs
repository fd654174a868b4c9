//! What a run folder holds for a report.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::super::changes::flat;
use super::super::record::RunJson;
use super::super::{RunError, RunFolder, lines};
use super::tables::Table;

/// Largest file of measurements or picture that goes into a page, in bytes.
const LARGEST: u64 = 32 << 20;
const WEIGHTS: &str = "safetensors";
/// First bytes of a PNG.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// All that is told about one run.
pub(super) struct Contents {
    /// Name of the folder, told apart from the others'.
    pub(super) name: String,
    pub(super) record: Option<RunJson>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) metrics: Vec<Map<String, Value>>,
    pub(super) evaluations: Vec<Map<String, Value>>,
    /// Tables of the files `eval*.json`.
    pub(super) tables: Vec<Table>,
    /// Sample grids in the order of their steps.
    pub(super) samples: Vec<PathBuf>,
    /// Other pictures of the folder, such as nearest neighbours.
    pub(super) pictures: Vec<PathBuf>,
    /// Weight files of the folder and of its last checkpoint, and their SHA-256.
    pub(super) weights: Vec<(String, String)>,
}

impl Contents {
    pub(super) fn read(folder: &RunFolder, name: String) -> Result<Self, RunError> {
        let config = folder.config_file();
        let text = fs::read_to_string(&config).map_err(RunError::io(&config))?;
        let settings = flat(&text).map_err(|error| RunError::file(&config, error.to_string()))?;
        let files = files_of(folder.path())?;
        let of = |wanted: fn(&str) -> bool| files.iter().filter(move |(name, _)| wanted(name));
        let mut tables = Vec::new();
        for (name, path) in of(|name| name.starts_with("eval") && name.ends_with(".json")) {
            let value = serde_json::from_slice(&small(path)?);
            let value = value.map_err(|error| RunError::file(path, error.to_string()))?;
            tables.extend(Table::all(name, &value));
        }
        let latest = match folder.latest()? {
            Some(checkpoint) => files_of(checkpoint.path())?,
            None => BTreeMap::new(),
        };
        let mut weights = Vec::new();
        for path in files.values().chain(latest.values()).filter(|path| path.extension().is_some_and(|e| e == WEIGHTS))
        {
            let name = path.strip_prefix(folder.path()).unwrap_or(path).display().to_string();
            weights.push((name, sha256(path)?));
        }
        let samples = if folder.path().join("samples").is_dir() { folder.pictures()? } else { Vec::new() };
        Ok(Self {
            name,
            record: folder.record()?,
            settings,
            metrics: lines::read(&folder.metrics())?,
            evaluations: lines::read(&folder.evaluations())?,
            tables,
            samples,
            pictures: of(|name| name.ends_with(".png")).map(|(_, path)| path.clone()).collect(),
            weights,
        })
    }
}

/// The regular files of a folder by their names.
fn files_of(folder: &Path) -> Result<BTreeMap<String, PathBuf>, RunError> {
    let entries = fs::read_dir(folder).map_err(RunError::io(folder))?;
    let paths = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    Ok(paths.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path.clone()))).collect())
}

/// A file that is no larger than what a page may hold.
fn small(path: &Path) -> Result<Vec<u8>, RunError> {
    let file = File::open(path).map_err(RunError::io(path))?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(RunError::io(path))?;
    if bytes.len() as u64 > LARGEST {
        return Err(RunError::file(path, format!("is larger than the {LARGEST} bytes that a report takes")));
    }
    Ok(bytes)
}

/// The bytes of a PNG.
pub(super) fn png(path: &Path) -> Result<Vec<u8>, RunError> {
    let bytes = small(path)?;
    if !bytes.starts_with(PNG) {
        return Err(RunError::file(path, "is no PNG".to_owned()));
    }
    Ok(bytes)
}

fn sha256(path: &Path) -> Result<String, RunError> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(RunError::io(path))?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(RunError::io(path))? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            length => hash.update(&piece[..length]),
        }
    }
}
