//! Which variants are compared, and what is expected of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use drifting_train::config::{ExperimentConfig, Override, TrainConfig};
use serde::Deserialize;

/// A file of ablations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// Name of the report, and of its folder.
    pub(super) name: String,
    /// Configuration that every variant starts from, relative to the plan.
    pub(super) base: PathBuf,
    /// Settings of all variants, as after `--set`.
    #[serde(default)]
    pub(super) set: Vec<String>,
    /// Each variant is trained once with each of these seeds.
    #[serde(default = "one_seed")]
    pub(super) seeds: Vec<u64>,
    /// Generated images of each class that are judged.
    #[serde(default = "images")]
    pub(super) images: usize,
    /// What is compared.
    pub(super) variants: Vec<Variant>,
    /// What must come out.
    #[serde(default)]
    pub(super) claims: Vec<Claim>,
}

/// One way to train.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    /// Name, also of its run folder.
    pub(super) name: String,
    /// Settings that differ from the base, as after `--set`.
    #[serde(default)]
    pub(super) set: Vec<String>,
}

/// One variant has a smaller Fréchet distance than another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    /// Name of the variant that should be better.
    pub(super) better: String,
    /// Name of the one that should be worse.
    pub(super) worse: String,
    /// Share by which the better one may be worse: 0 for better, 0.1 for "no worse".
    #[serde(default)]
    pub(super) tolerance: f64,
}

fn one_seed() -> Vec<u64> {
    vec![42]
}

fn images() -> usize {
    200
}

impl Plan {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut plan: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        plan.base = path.parent().unwrap_or(Path::new(".")).join(&plan.base);
        let mut names = BTreeSet::new();
        for Variant { name, .. } in &plan.variants {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
                bail!("variants: {name:?} names a folder: letters, digits, - _ and . are possible");
            }
            if !names.insert(name) {
                bail!("variants: {name} is there twice");
            }
        }
        if plan.variants.is_empty() || plan.seeds.is_empty() {
            bail!("{}: needs at least one variant and one seed", path.display());
        }
        if let Some(name) = plan.claims.iter().flat_map(|c| [&c.better, &c.worse]).find(|name| !names.contains(name)) {
            bail!("claims: {name:?} is none of the variants {names:?}");
        }
        Ok(plan)
    }

    /// The settings of a variant with one of the seeds.
    pub(super) fn config(&self, variant: &Variant, seed: u64) -> Result<TrainConfig> {
        let seed = format!("seed={seed}");
        let sets = self.set.iter().chain(&variant.set).chain([&seed]);
        let overrides =
            sets.map(|set| set.parse::<Override>().map_err(anyhow::Error::msg)).collect::<Result<Vec<_>>>()?;
        match ExperimentConfig::load(&self.base, &overrides)? {
            ExperimentConfig::Generator(config) => Ok(*config),
            _ => bail!("{} trains no generator", self.base.display()),
        }
    }
}
