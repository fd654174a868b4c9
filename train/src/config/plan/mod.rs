//! What a run will need, worked out from its settings alone: neither data nor weights have to be there.

mod encoder;
mod memory;
mod text;

use std::fmt;
use std::path::Path;

use drifting_models::{mae_flops, mae_parameter_count, parameter_count};
use drifting_spec::ImageShape;

use self::encoder::Encoder;
pub use self::memory::Memory;
use super::{
    BatchSettings, ComputeSettings, ConfigError, ExperimentConfig, MaeTrainConfig, RunSettings, TrainConfig, cost,
};
use crate::drift::{AlphaLaw, ScaleScope};
use crate::features::{FeatureKey, available_keys, mae_maps, select_keys};
use crate::toy::ToyConfig;

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
    pub data_images: Option<usize>,
    /// Floating-point operations of one step, part by part.
    pub flops: Vec<(&'static str, f64)>,
    /// Bytes in memory, part by part.
    pub memory: Memory,
    /// What else a person should see.
    pub notes: Vec<String>,
    /// Files that the run needs and that are not there.
    pub missing: Vec<String>,
}

impl Plan {
    /// The plan of an experiment; `images` is the number of its data, where it is known.
    ///
    /// # Errors
    /// Networks that contradict themselves; feature keys that the encoder does not have.
    pub fn of(experiment: &ExperimentConfig, images: Option<usize>) -> Result<Self, ConfigError> {
        match experiment {
            ExperimentConfig::Generator(config) => Self::generator(config, images),
            ExperimentConfig::Mae(config) => Self::mae(config, images),
            ExperimentConfig::Toy(config) => Ok(Self::toy(config)),
        }
    }

    fn new(
        settings: &dyn RunSettings,
        compute: ComputeSettings,
        parameters: usize,
        data_images: Option<usize>,
    ) -> Self {
        let start = settings.start().map(|start| &start.model).filter(|model| !model.exists());
        Self {
            name: settings.name().to_owned(),
            kind: settings.kind(),
            parameters: parameters as u64,
            steps: settings.steps(),
            images_per_step: settings.images_per_step() as u64,
            data_images,
            flops: Vec::new(),
            memory: Memory::new(compute),
            notes: Vec::new(),
            missing: start.iter().map(|model| format!("start: {}", model.display())).collect(),
        }
    }

    /// The plan of a generator's training.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn generator(config: &TrainConfig, images: Option<usize>) -> Result<Self, ConfigError> {
        let (network, batch) = (&config.generator, config.batch);
        let parameters = section(parameter_count(network))?;
        let mut plan = Self::new(config, config.compute, parameters, images);
        let ImageShape { channels, height, width } = network.image;
        let (tokens, classes) = (network.tokens(), network.classes);
        plan.notes.push(format!("{channels}x{height}x{width} images of {classes} classes, {tokens} tokens"));
        let BatchSettings { generated, positives, unconditional, .. } = batch;
        let work = Work::of(config);
        plan.notes.push(format!(
            "{} class groups of {generated} generated, {positives} positive, {unconditional} unconditional images, \
             {} at once",
            batch.classes, work.together
        ));
        let AlphaLaw { min, max, exponent, no_cfg_fraction } = config.alpha;
        let at_one = 100.0 * no_cfg_fraction;
        plan.notes.push(format!("alpha in [{min}, {max}] with density alpha^-{exponent}, {at_one:.0} % at 1"));
        let passes = if work.looks > 0.0 { 4.0 } else { 3.0 };
        plan.flops.push(("generator", passes * work.generated * FLOP * network.macs() as f64));
        plan.memory.learner(parameters, config.ema.decays.len());
        plan.memory.generator(network, parameters, work.at_once);
        plan.add_features(config, &work)?;
        if let Some(folder) = &config.sampling.decoder {
            plan.need("decoder of samples", folder);
        }
        if let Some(queue) = config.queue {
            plan.memory.queues(queue.per_class * network.classes + queue.global, network.image);
        }
        Ok(plan)
    }

    /// Encoders and feature keys.
    fn add_features(&mut self, config: &TrainConfig, work: &Work) -> Result<(), ConfigError> {
        let features = &config.features;
        let image = config.generator.image;
        let forward = (work.generated + work.real) * (1.0 + work.looks);
        let mut known = features.convnext.is_none() && features.decoder.is_none();
        let mut maps = Vec::new();
        if let Some(settings) = &features.encoder {
            match Encoder::of(settings, self)? {
                Some(Encoder { config, parameters }) => {
                    let once = section(mae_flops(&config))?.encoder as f64;
                    self.flops.push(("encoder forward", once * forward));
                    self.flops.push(("encoder backward", once * work.generated));
                    self.memory.encoder(&config, parameters, work.at_once, work.real_at_once);
                    maps = mae_maps(&config);
                }
                None => known = false,
            }
        }
        if let Some(folder) = &features.convnext {
            self.need("ConvNeXt-V2", folder);
            let once = FLOP * cost::CONVNEXT_BASE_MACS as f64;
            self.flops.push(("ConvNeXt-V2 Base", once * (forward + work.generated)));
        }
        if let Some(folder) = &features.decoder {
            self.need("decoder", folder);
            self.notes.push("the decoder before the encoders is not counted".to_owned());
        }
        if !known {
            self.notes.push(format!("feature keys {}", features.keys.join(" ")));
            return Ok(());
        }
        let keys = available_keys(image, &maps).and_then(|keys| select_keys(&keys, image, &features.keys));
        let keys = section(keys)?;
        let vectors: usize = keys.iter().map(FeatureKey::locations).sum();
        let numbers: usize = keys.iter().map(|key| key.locations() * key.dim()).sum();
        self.notes.push(format!("{} feature keys: {vectors} vectors, {numbers} numbers of each image", keys.len()));
        let sizes = keys.iter().map(|key| (key.locations() * key.dim()) as f64);
        let largest = sizes.fold(0.0, f64::max);
        self.memory.features(numbers as f64, largest, work.at_once, work.real_at_once);
        Ok(())
    }

    /// Notes a file or folder that is not there.
    fn need(&mut self, what: &str, path: &Path) {
        if !path.exists() {
            self.missing.push(format!("{what}: {}", path.display()));
        }
    }

    /// The plan of a masked autoencoder's training.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn mae(config: &MaeTrainConfig, images: Option<usize>) -> Result<Self, ConfigError> {
        let network = &config.mae;
        let parameters = section(mae_parameter_count(network))?;
        let mut plan = Self::new(config, config.compute, parameters, images);
        let ImageShape { channels, height, width } = network.image;
        plan.notes.push(format!("{channels}x{height}x{width} images of {} classes", network.classes));
        let images = config.batch.images as f64;
        let once = section(mae_flops(network))?;
        plan.flops.push(("encoder", 3.0 * images * once.encoder as f64));
        plan.flops.push(("decoder", 3.0 * images * once.decoder as f64));
        plan.memory.learner(parameters, config.ema.decays.len());
        let together = match config.batch.images_at_once {
            0 => images,
            some => images.min(some as f64),
        };
        plan.memory.autoencoder(network, together);
        if let Some(folder) = &config.autoencoder {
            plan.need("autoencoder", folder);
            plan.notes.push("the autoencoder before the network is not counted".to_owned());
        }
        let (rows, columns) = network.grid();
        plan.notes.push(format!(
            "{rows}x{columns} positions, {:.0} % hidden; classes in the last {} steps",
            100.0 * config.masking.ratio,
            config.finetune.steps.min(config.steps)
        ));
        Ok(plan)
    }

    /// The plan of a toy's training.
    #[must_use]
    pub fn toy(config: &ToyConfig) -> Self {
        let network = config.toy.network;
        let layers = [network.noise].into_iter().chain(std::iter::repeat_n(network.hidden, network.depth)).chain([2]);
        let layers: Vec<_> = layers.collect();
        let weights: usize = layers.windows(2).map(|sizes| sizes[0] * sizes[1]).sum();
        let biases: usize = layers.iter().skip(1).sum();
        let mut plan = Self::new(config, ComputeSettings::default(), weights + biases, None);
        plan.flops.push(("network", 3.0 * FLOP * (weights * config.toy.generated) as f64));
        plan.memory.learner(weights + biases, 0);
        // Of each hidden layer its sum and what the activation makes of it.
        let kept = config.toy.generated * (network.noise + 2 * network.hidden * network.depth);
        plan.memory.on_host("activations", kept as f64);
        plan.notes.push(format!("{} points of the data in each step", config.toy.positives));
        if !config.ablations.is_empty() {
            let names: Vec<_> = config.ablations.iter().map(|ablation| ablation.name.as_str()).collect();
            plan.notes.push(format!("{} runs: {}", names.len(), names.join(", ")));
        }
        plan
    }

    /// Floating-point operations of one step.
    #[must_use]
    pub fn total_flops(&self) -> f64 {
        self.flops.iter().map(|(_, flops)| flops).sum()
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

/// Images of a step.
struct Work {
    generated: f64,
    real: f64,
    /// Class groups that are worked at once, and their images.
    together: usize,
    at_once: f64,
    real_at_once: f64,
    /// Passes over the whole step before the one that has gradients: two where scales span a step that is not worked at
    /// once (for the mean distances, and for the mean squares of the drifts).
    looks: f64,
}

impl Work {
    fn of(config: &TrainConfig) -> Self {
        let BatchSettings { classes, generated, positives, unconditional, groups_at_once } = config.batch;
        let together = if groups_at_once == 0 { classes } else { groups_at_once.min(classes) };
        let streamed = together < classes && config.drift.scale_scope == ScaleScope::Batch;
        let images = |groups: usize, images: usize| (groups * images) as f64;
        Self {
            generated: images(classes, generated),
            real: images(classes, positives + unconditional),
            together,
            at_once: images(together, generated),
            real_at_once: images(together, positives + unconditional),
            looks: if streamed { 2.0 } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::{GeneratorConfig, MaeConfig};

    use super::*;
    use crate::config::Override;

    /// The settings of paper Table 8 as far as they cost something; `[classes, generated, positives, unconditional]`.
    fn table8(generator: &str, encoder: &str, batch: [usize; 4]) -> Plan {
        let network = GeneratorConfig::published(generator).unwrap();
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
            assert_eq!(plan.missing, [format!("encoder: absent/{encoder}.safetensors")]);
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
            "a step: 1.10 PFLOP (generator 603 TFLOP, encoder forward 342 TFLOP, encoder backward 152 TFLOP)",
            "missing: encoder: absent/mae_latent_256.safetensors",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn a_plan_tells_the_memory_of_a_gpu_from_the_rest() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/table8/latent-b2.toml");
        let plan = |changes: &[&str]| {
            let changes: Vec<Override> = changes.iter().map(|change| change.parse().unwrap()).collect();
            Plan::of(&ExperimentConfig::load(&path, &changes).unwrap(), None).unwrap()
        };
        let gigabytes = |parts: Vec<(&str, f64)>| parts.iter().map(|(_, bytes)| bytes / 1e9).sum::<f64>();
        assert_eq!(plan(&[]).memory.device(), None);
        let gpu = plan(&["compute.device=\"cuda\""]);
        // The batch of the paper, a class group at a time, fits a card of 80 GB.
        let device = gigabytes(gpu.memory.device().unwrap());
        assert!(device > 30.0 && device < 60.0, "{device}");
        assert!(
            gpu.to_string().contains("  GPU memory: ") && gpu.to_string().contains("memory: 2.11 GB (queues 2.11 GB)")
        );
        let again = plan(&["compute.device=\"cuda\"", "compute.recompute=true"]);
        assert!(gigabytes(again.memory.device().unwrap()) < device - 9.0);
        let plain = plan(&["compute.operations=\"plain\""]);
        assert!((gigabytes(plain.memory.host()) - device - 2.11).abs() < 0.01);
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
            let others = ["autoencoder=absent/vae", "start.model=absent/run"].map(|change| change.parse().unwrap());
            let plan = Plan::of(&ExperimentConfig::parse(&text, "test", &others).unwrap(), None).unwrap();
            assert_eq!(plan.missing, ["start: absent/run", "autoencoder: absent/vae"]);
        }
    }
}
