//! What a configuration for some images says.

use std::fmt;
use std::path::Path;

/// Class groups of a step, at most.
const GROUPS: usize = 10;
/// Steps for so many classes as are in a step.
const STEPS: usize = 1500;
/// Steps with an encoder, likewise.
const ENCODED_STEPS: usize = 3000;
/// Steps at most.
const MOST_STEPS: usize = 30_000;
/// Classes that are named.
const NAMED: usize = 5;

/// Images, and what is chosen for them.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    /// The value of the key `data`.
    pub(super) data: String,
    pub(super) classes: Vec<String>,
    pub(super) images: usize,
    /// Images of the smallest class.
    pub(super) fewest: usize,
    pub(super) picture: Picture,
}

/// The pictures to generate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture {
    pub(super) channels: usize,
    pub(super) side: usize,
    /// Whether the images have another size, and none that they are scaled from by themselves.
    pub(super) crop: bool,
}

impl Picture {
    /// Side of a patch: as few pixels as give at most eight patches on a side.
    fn patch(self) -> usize {
        let at_most_eight = |patch: &usize| self.side.is_multiple_of(*patch) && self.side / patch <= 8;
        (1..=self.side).find(at_most_eight).unwrap_or(self.side)
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, classes, fewest, picture: Picture { channels, side, .. }, .. } = self;
        let colours = if *channels == 1 { "grey" } else { "colour" };
        let names: Vec<String> = classes.iter().take(NAMED).map(|name| line(name)).collect();
        let more = if classes.len() > NAMED { ", ..." } else { "" };
        let kinds = if classes.len() == 1 { "class" } else { "classes" };
        write!(f, "{images} images of {} {kinds} ({}{more})", classes.len(), names.join(", "))?;
        write!(f, ", the smallest of {fewest}; {side} x {side} pixels in {colours}")
    }
}

impl Draft {
    pub(super) fn encoder_name(&self) -> String {
        format!("{}-encoder", self.name)
    }

    /// The configuration of a generator of the images in `source`, to be written to `path`; with `encoder`, one that drifts in the
    /// features of what that file trains.
    pub(super) fn generator(&self, source: &str, path: &Path, encoder: Option<&Path>) -> String {
        let Self { name, classes, fewest, picture: Picture { channels, side, .. }, .. } = self;
        let (patch, path) = (self.picture.patch(), line(&path.display().to_string()));
        let groups = classes.len().min(if encoder.is_some() { GROUPS / 2 } else { GROUPS });
        let steps = self.steps(if encoder.is_some() { ENCODED_STEPS } else { STEPS }, groups);
        let generated = (160 / groups).clamp(16, 48);
        let positives = (*fewest).clamp(16, 128);
        // There is nothing to be told apart from.
        let guided = classes.len() > 1;
        let unconditional = if guided { 32 } else { 0 };
        let first = encoder.map(|path| format!("#   drifting train {}\n", line(&path.display().to_string())));
        let first = first.unwrap_or_default();
        let cells = (side / 4, patch, side / 2, side / 4);
        let pixels = format!("\"patch_{}\", \"mean_{}\", \"mean_{}\", \"std_{}\"", cells.0, cells.1, cells.2, cells.3);
        let features = match encoder {
            Some(_) => format!(
                "# All keys of the encoder, and some of the image itself.\nkeys = [\"all\", {pixels}]\n\
                 encoder = {{ mae = \"runs/{}\" }}",
                self.encoder_name()
            ),
            None => format!(
                "# Where samples are pulled towards real images: as a whole, in squares, and by the brightness and texture of\n\
                 # squares. An encoder's features make better pictures, and take longer: drifting new --encoder.\n\
                 keys = [\"global\", {pixels}]"
            ),
        };
        let sampling = if guided { "alpha = 1.5" } else { "alpha = 1.0\ngrid_alphas = [1.0]\ngrid_images = 12" };
        format!(
            "# {self}.\n\
             # Written by `drifting new {}`; docs/training.md explains every key.\n\
             #\n\
             {first}#   drifting train {path} --dry-run    # what it takes\n\
             #   drifting train {path}              # stop it, kill it: the same command goes on\n\
             name = \"{name}\"\n\
             steps = {steps}\n\
             {data}\n\
             \n\
             {augment}\
             \n\
             [generator]\n\
             image = {{ channels = {channels}, height = {side}, width = {side} }}\n\
             # {tokens} squares that attend to each other; more see more, and cost more.\n\
             patch = {patch}\n\
             hidden = 128\n\
             depth = 4\n\
             heads = 4\n\
             classes = {}\n\
             style_tokens = 8\n\
             style_codes = 16\n\
             registers = 4\n\
             \n\
             # Images of a step: classes, generated images of each, real images of each, real images of any class.\n\
             [batch]\n\
             classes = {groups}\n\
             generated = {generated}\n\
             positives = {positives}\n\
             unconditional = {unconditional}\n\
             \n\
             # The strength of guidance, alpha, is drawn from [1, 4] with density alpha^-exponent.\n\
             [alpha]\n\
             exponent = 1.5\n\
             \n\
             [features]\n\
             {features}\n\
             \n\
             [schedule]\n\
             lr = {lr}\n\
             warmup_steps = 50\n\
             decay = {{ cosine = {{ steps = {steps}, floor = 2e-5 }} }}\n\
             \n\
             [ema]\n\
             decays = [0.98]\n\
             \n\
             [sampling]\n\
             {sampling}\n\
             \n\
             [output]\n\
             metrics_every = 20\n\
             samples_every = 250\n\
             checkpoint_every = 250\n",
            line(source),
            classes.len(),
            data = self.data(),
            augment = self.augment(),
            tokens = (side / patch).pow(2),
            lr = if encoder.is_some() { "1e-3" } else { "2e-3" },
        )
    }

    /// The configuration of a feature encoder, to be written to `path`.
    pub(super) fn encoder(&self, path: &Path) -> String {
        let Self { classes, fewest, picture: Picture { channels, side, .. }, .. } = self;
        let (steps, path) = (self.steps(1300, classes.len().min(GROUPS)), line(&path.display().to_string()));
        // One class is no task.
        let (finetune, rest) = if classes.len() > 1 { (steps * 3 / 4, "") } else { (0, " (there is one class)") };
        let held_out = if *fewest >= 20 { 10 } else { 0 };
        format!(
            "# The feature encoder of {name}: a masked autoencoder.\n\
             #   drifting train {path}\n\
             name = \"{encoder}\"\n\
             steps = {steps}\n\
             {data}\n\
             \n\
             {augment}\
             \n\
             [mae]\n\
             image = {{ channels = {channels}, height = {side}, width = {side} }}\n\
             input_patch = {input_patch}\n\
             base_channels = 32\n\
             blocks = [1, 2, 2, 1]\n\
             classes = {count}\n\
             norm_groups = 4\n\
             \n\
             [batch]\n\
             images = 64\n\
             \n\
             # Classification in the last steps{rest}: what tells classes apart is what guidance needs.\n\
             [finetune]\n\
             steps = {finetune}\n\
             ramp = 200\n\
             weight = 0.25\n\
             \n\
             [schedule]\n\
             lr = 2e-3\n\
             warmup_steps = 100\n\
             decay = {{ cosine = {{ steps = {steps}, floor = 1e-5 }} }}\n\
             \n\
             [ema]\n\
             decays = [0.995]\n\
             \n\
             # Every so many-th image of a class is measured and not trained on, where there are no test images.\n\
             [evaluation]\n\
             every = 400\n\
             images = 1000\n\
             hold_out = {held_out}\n\
             \n\
             [output]\n\
             metrics_every = 50\n\
             samples_every = 400\n\
             checkpoint_every = 400\n",
            name = self.name,
            encoder = self.encoder_name(),
            data = self.data(),
            augment = self.augment(),
            input_patch = if *side >= 64 { 4 } else { 2 },
            count = classes.len(),
        )
    }

    /// `steps` for as many classes as a step has, and as many more as it takes to see the others as often.
    fn steps(&self, steps: usize, groups: usize) -> usize {
        (steps * self.classes.len() / groups.max(1)).min(MOST_STEPS)
    }

    fn data(&self) -> String {
        format!("data = {}", self.data)
    }

    fn augment(&self) -> String {
        let crop = if self.picture.crop { "crop = \"adm\"\n" } else { "" };
        format!(
            "[augment]\n\
             # true mirrors every other image: right for photographs, wrong for letters.\n\
             flip = false\n{crop}"
        )
    }
}

/// A text as part of a line.
fn line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
