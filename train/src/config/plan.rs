//! What a run will need, worked out from its settings alone: neither data nor weights have to be there.

use std::fmt;
use std::path::Path;

use drifting_models::{mae_flops, mae_parameter_count, parameter_count};
use drifting_spec::MaeConfig;

use super::cost;
use super::{ConfigError, EncoderSettings, ExperimentConfig, MaeTrainConfig, RunSettings, TrainConfig};
use crate::drift::ScaleScope;
use crate::features::{available_keys, mae_maps, select_keys};
use crate::toy::ToyConfig;

/// Bytes of a number.
const BYTES: f64 = 4.0;
/// Operations of a multiply-accumulate.
const FLOP: f64 = 2.0;

/// Arithmetic and memory of a run.
///
/// Arithmetic counts two operations for each multiply-accumulate of matrix products and convolutions; a backward pass
/// costs as much as two forward passes, or one where only the gradient of the input is wanted (method section 17). The
/// drift itself, norms and autoencoders are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Name of the model.
    pub name: String,
    /// What is trained.
    pub kind: &'static str,
    /// Trained parameters.
    pub parameters: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Images (or points) that a step generates or, for an autoencoder, reads.
    pub images_per_step: u64,
    /// Images of the data, where they could be counted.
    pub data_images: Option<u64>,
    /// Floating-point operations of one step, part by part.
    pub flops: Vec<(&'static str, f64)>,
    /// Bytes in memory, part by part.
    pub memory: Vec<(&'static str, f64)>,
    /// What else a person should see.
    pub notes: Vec<String>,
    /// Files that the run needs and that are not there.
    pub missing: Vec<String>,
}

impl Plan {
    /// The plan of an experiment; `data_images` is the number of its images, where it is known.
    ///
    /// # Errors
    /// Networks that contradict themselves.
    pub fn of(experiment: &ExperimentConfig, data_images: Option<u64>) -> Result<Self, ConfigError> {
        match experiment {
            ExperimentConfig::Generator(config) => Self::of_generator(config, data_images),
            ExperimentConfig::Mae(config) => Self::of_mae(config, data_images),
            ExperimentConfig::Toy(config) => Ok(Self::of_toy(config)),
        }
    }

    fn new(settings: &dyn RunSettings, parameters: usize) -> Self {
        Self {
            name: settings.name().to_owned(),
            kind: settings.kind(),
            parameters: parameters as u64,
            steps: settings.steps(),
            images_per_step: settings.images_per_step() as u64,
            data_images: None,
            flops: Vec::new(),
            memory: Vec::new(),
            notes: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn of_generator(config: &TrainConfig, data_images: Option<u64>) -> Result<Self, ConfigError> {
        let network = &config.generator;
        let parameters = section(parameter_count(network))?;
        let mut plan = Self { data_images, ..Self::new(config, parameters) };
        let batch = config.batch;
        let together = if batch.groups_at_once == 0 { batch.classes } else { batch.groups_at_once.min(batch.classes) };
        // Scales over the whole step need passes of their own when it is not worked at once.
        let streamed = together < batch.classes;
        let looks = if streamed && config.drift.scale_scope == ScaleScope::Batch { 2.0 } else { 0.0 };
        let generated = (batch.classes * batch.generated) as f64;
        let real = (batch.classes * (batch.positives + batch.unconditional)) as f64;
        let forward = generated * FLOP * cost::generator_macs(network) as f64;
        plan.flops.push(("generator", forward * if looks > 0.0 { 4.0 } else { 3.0 }));
        plan.remember(parameters, config.ema.decays.len());
        let group = (together * batch.generated) as f64;
        plan.memory.push(("generator's activations", BYTES * group * cost::generator_activations(network) as f64));
        let encoder = config.features.encoder.as_ref().map(|encoder| Encoder::of(encoder, &mut plan)).transpose()?;
        if let Some(encoder) = encoder.flatten() {
            let once = section(mae_flops(&encoder.config))?.encoder as f64;
            plan.flops.push(("encoder forward", once * (generated + real) * (1.0 + looks)));
            plan.flops.push(("encoder backward", once * generated));
            plan.memory.push(("encoder", BYTES * encoder.parameters));
            let activations = cost::encoder_activations(&encoder.config) as f64;
            plan.memory.push(("encoder's activations", BYTES * group * activations));
            let maps = mae_maps(&encoder.config);
            let keys = available_keys(network.image, &maps);
            let keys = keys.and_then(|keys| select_keys(&keys, network.image, &config.features.keys));
            let keys = section(keys)?;
            let numbers: usize = keys.iter().map(|key| key.locations() * key.dim()).sum();
            let vectors: usize = keys.iter().map(crate::features::FeatureKey::locations).sum();
            plan.notes.push(format!("{} feature keys: {vectors} vectors, {numbers} numbers of each image", keys.len()));
            let images = group * 2.0 + (together * (batch.positives + batch.unconditional)) as f64;
            plan.memory.push(("features", BYTES * images * numbers as f64));
        } else {
            plan.notes.push(format!("feature keys {}", config.features.keys.join(" ")));
        }
        plan.notes.push(format!(
            "{} class groups of {} generated, {} positive, {} unconditional images, {together} at once",
            batch.classes, batch.generated, batch.positives, batch.unconditional
        ));
        plan.notes.push(format!(
            "alpha in [{}, {}], density alpha^-{}, {:.0} % at 1",
            config.alpha.min,
            config.alpha.max,
            config.alpha.exponent,
            100.0 * config.alpha.no_cfg_fraction
        ));
        Ok(plan)
    }

    fn of_mae(config: &MaeTrainConfig, data_images: Option<u64>) -> Result<Self, ConfigError> {
        let network = &config.mae;
        let parameters = section(mae_parameter_count(network))?;
        let mut plan = Self { data_images, ..Self::new(config, parameters) };
        let images = config.batch.images as f64;
        let once = section(mae_flops(network))?;
        plan.flops.push(("encoder", 3.0 * images * once.encoder as f64));
        plan.flops.push(("decoder", 3.0 * images * once.decoder as f64));
        plan.remember(parameters, config.ema.decays.len());
        let together = match config.batch.images_at_once {
            0 => images,
            some => images.min(some as f64),
        };
        let activations = cost::encoder_activations(network) + cost::decoder_activations(network);
        plan.memory.push(("activations", BYTES * together * activations as f64));
        let (rows, columns) = network.grid();
        plan.notes.push(format!(
            "{rows}x{columns} positions, {:.0} % hidden; classes in the last {} steps",
            100.0 * config.masking.ratio,
            config.finetune.steps.min(config.steps)
        ));
        Ok(plan)
    }

    fn of_toy(config: &ToyConfig) -> Self {
        let network = config.toy.network;
        let layers = [network.noise].into_iter().chain(std::iter::repeat_n(network.hidden, network.depth)).chain([2]);
        let layers: Vec<_> = layers.collect();
        let weights: usize = layers.windows(2).map(|sizes| sizes[0] * sizes[1]).sum();
        let biases: usize = layers.iter().skip(1).sum();
        let mut plan = Self::new(config, weights + biases);
        plan.flops.push(("network", 3.0 * FLOP * (weights * config.toy.generated) as f64));
        plan.remember(weights + biases, 0);
        let pairs = config.toy.generated * (config.toy.generated + config.toy.positives);
        plan.memory.push(("pairs of points", 4.0 * BYTES * pairs as f64));
        plan.notes.push(format!("{} points of the data in each step", config.toy.positives));
        if !config.ablations.is_empty() {
            let names: Vec<_> = config.ablations.iter().map(|ablation| ablation.name.as_str()).collect();
            plan.notes.push(format!("{} runs: {}", names.len(), names.join(", ")));
        }
        plan
    }

    /// Weights, gradients, two moments and the moving averages.
    fn remember(&mut self, parameters: usize, averages: usize) {
        self.memory.push(("parameters, moments, averages", BYTES * parameters as f64 * (4 + averages) as f64));
    }

    /// Floating-point operations of one step.
    #[must_use]
    pub fn total_flops(&self) -> f64 {
        self.flops.iter().map(|(_, flops)| flops).sum()
    }

    /// Bytes in memory.
    #[must_use]
    pub fn total_memory(&self) -> f64 {
        self.memory.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Passes over the data, where their number is known (paper section 4: images of all steps / images of the data).
    #[must_use]
    pub fn epochs(&self) -> Option<f64> {
        let images = self.data_images.filter(|images| *images > 0)?;
        Some(self.steps as f64 * self.images_per_step as f64 / images as f64)
    }
}

/// An error of a network or of keys as one of the settings.
fn section<T>(result: Result<T, impl fmt::Display>) -> Result<T, ConfigError> {
    result.map_err(|error| ConfigError::Section(error.to_string()))
}

/// The masked autoencoder of a run, as far as its files tell.
struct Encoder {
    config: MaeConfig,
    parameters: f64,
}

impl Encoder {
    /// From the settings in its run folder, the header of its file, or the name of a published one. What is not there is
    /// noted in `plan`.
    fn of(settings: &EncoderSettings, plan: &mut Plan) -> Result<Option<Self>, ConfigError> {
        let path = settings.mae.as_path();
        if !path.exists() {
            plan.missing.push(format!("encoder {}", path.display()));
        }
        let Some(config) = in_run_folder(path).or_else(|| in_header(path)).or_else(|| published(path)) else {
            plan.notes.push("the encoder is not known before its file is there".to_owned());
            return Ok(None);
        };
        let parameters = section(mae_parameter_count(&config))?;
        Ok(Some(Self { config, parameters: parameters as f64 }))
    }
}

fn in_run_folder(path: &Path) -> Option<MaeConfig> {
    match ExperimentConfig::load(&path.join("config.toml"), &[]).ok()? {
        ExperimentConfig::Mae(config) => Some(config.mae),
        ExperimentConfig::Generator(_) | ExperimentConfig::Toy(_) => None,
    }
}

fn in_header(path: &Path) -> Option<MaeConfig> {
    let config = drifting_models::weights::read_metadata(path).ok()?.remove("config")?;
    serde_json::from_str(&config).ok()
}

fn published(path: &Path) -> Option<MaeConfig> {
    MaeConfig::published(&path.file_stem()?.to_string_lossy())
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, steps, images_per_step, .. } = self;
        writeln!(formatter, "{name}: {kind}, {} parameters", short(self.parameters as f64, ""))?;
        for note in &self.notes {
            writeln!(formatter, "  {note}")?;
        }
        let images = short(*steps as f64 * *images_per_step as f64, "");
        write!(formatter, "  {steps} steps of {images_per_step}: {images} images")?;
        match (self.epochs(), self.data_images) {
            (Some(epochs), Some(data)) => writeln!(formatter, ", {epochs:.1} epochs of {data}")?,
            _ => writeln!(formatter)?,
        }
        let parts = |parts: &[(&str, f64)], unit: &str| {
            let parts: Vec<_> = parts.iter().map(|(name, value)| format!("{name} {}", short(*value, unit))).collect();
            parts.join(", ")
        };
        writeln!(formatter, "  a step: {} ({})", short(self.total_flops(), "FLOP"), parts(&self.flops, "FLOP"))?;
        write!(formatter, "  memory: {} ({})", short(self.total_memory(), "B"), parts(&self.memory, "B"))?;
        for missing in &self.missing {
            write!(formatter, "\n  missing: {missing}")?;
        }
        Ok(())
    }
}

/// Three digits and a prefix, such as `1.10 PFLOP`.
fn short(value: f64, unit: &str) -> String {
    let prefixes = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (scale, prefix) = prefixes.into_iter().find(|(scale, _)| value >= *scale).unwrap_or((1.0, ""));
    let text = match value / scale {
        small if small < 10.0 && scale > 1.0 => format!("{small:.2}"),
        small if small < 100.0 && scale > 1.0 => format!("{small:.1}"),
        large => format!("{large:.0}"),
    };
    let parted = format!("{text} {prefix}{unit}");
    parted.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings of paper Table 8 as far as they cost something; `[classes, generated, positives, unconditional]`.
    fn table8(generator: &str, encoder: &str, batch: [usize; 4]) -> Plan {
        let network = drifting_spec::GeneratorConfig::published(generator).unwrap();
        let network = toml::to_string(&network).unwrap();
        let [classes, generated, positives, unconditional] = batch;
        let text = format!(
            "name = \"test\"\nsteps = 1\ndata = {{ path = \"absent\" }}\nschedule = {{ lr = 1e-4 }}\n\
             features = {{ keys = [\"all\"], encoder = {{ mae = \"absent/{encoder}.safetensors\" }} }}\n\
             batch = {{ classes = {classes}, generated = {generated}, positives = {positives}, \
             unconditional = {unconditional} }}\n[generator]\n{}",
            network.replace("[image]", "[generator.image]")
        );
        Plan::of(&ExperimentConfig::parse(&text, "test", &[]).unwrap(), Some(1_281_167)).unwrap()
    }

    fn peta(plan: &Plan, part: &str) -> f64 {
        plan.flops.iter().filter(|(name, _)| name.starts_with(part)).map(|(_, flops)| flops / 1e15).sum()
    }

    #[test]
    fn a_step_costs_what_the_method_says() {
        for (generator, encoder, batch, of_encoder, of_generator) in [
            ("latent-b2", "mae_latent_256", [64, 64, 64, 16], 0.493, 0.602),
            ("latent-b2", "mae_latent_640", [64, 64, 64, 16], 3.083, 0.602),
            ("latent-b2", "mae_latent_640", [128, 64, 64, 32], 6.640, 1.204),
            ("latent-l2", "mae_latent_640", [128, 64, 64, 32], 6.640, 4.245),
            ("pixel-b16", "mae_pixel_640", [128, 64, 128, 32], 8.619, 1.219),
        ] {
            let plan = table8(generator, encoder, batch);
            let found = (peta(&plan, "encoder"), peta(&plan, "generator"));
            assert!((found.0 - of_encoder).abs() < 0.002 * of_encoder, "{generator} {encoder}: {found:?}");
            assert!((found.1 - of_generator).abs() < 0.002 * of_generator, "{generator}: {found:?}");
            assert_eq!(plan.missing, [format!("encoder absent/{encoder}.safetensors")]);
        }
    }

    #[test]
    fn a_plan_is_a_few_lines() {
        let mut plan = table8("latent-b2", "mae_latent_256", [64, 64, 64, 16]);
        plan.steps = 30_000;
        let text = plan.to_string();
        for expected in [
            "test: generator, 133 M parameters",
            "86 feature keys: 6734 vectors, 2474500 numbers of each image",
            "30000 steps of 4096: 123 M images, 95.9 epochs of 1281167",
            "a step: 1.10 PFLOP (generator 602 TFLOP, encoder forward 342 TFLOP, encoder backward 152 TFLOP)",
            "missing: encoder absent/mae_latent_256.safetensors",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn masked_autoencoders_cost_what_the_method_says() {
        for (name, expected) in [("mae_latent_256", 1.386), ("mae_latent_640", 8.66)] {
            let network = toml::to_string(&MaeConfig::published(name).unwrap()).unwrap();
            let network = network.replace("[image]", "[mae.image]");
            let text = format!(
                "name = \"test\"\nsteps = 1\ndata = {{ path = \"absent\" }}\nschedule = {{ lr = 4e-3 }}\n\
                 batch = {{ images = 8192 }}\n[mae]\n{network}"
            );
            let plan = Plan::of(&ExperimentConfig::parse(&text, "test", &[]).unwrap(), None).unwrap();
            assert!((plan.total_flops() / 1e15 - expected).abs() < 0.005 * expected, "{}", plan.total_flops());
            assert_eq!(plan.epochs(), None);
        }
    }

    #[test]
    fn figures_are_short() {
        for (value, expected) in
            [(0.0, "0 B"), (950.0, "950 B"), (1100.0, "1.10 kB"), (45.67e9, "45.7 GB"), (602e12, "602 TB")]
        {
            assert_eq!(short(value, "B"), expected);
        }
    }
}
