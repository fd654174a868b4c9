//! Figures with all that they need to be read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Contract, Interval, Neighbours, Network, Provenance};

/// Version of [`Evaluation`] as JSON; a field that is added does not change it.
pub const SCHEMA: u32 = 1;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Larger values.
    Higher,
    /// Smaller values.
    Lower,
}

/// One figure. What it is of stands beside it, so that it can be quoted alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `FID`, `fd-NETWORK`, `KID`, `kid-NETWORK`, `IS`, `is-NETWORK`, `precision`, `recall`, `density`, `coverage`,
    /// `accuracy`, `diversity`, `least-diversity`, `copies`.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Standard deviation over subsets (KID) or parts (IS).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    /// 95 % confidence by resampling the generated images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
    /// The same measured on real images that are not the reference: what a perfect generator would have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// Which way is better.
    pub better: Better,
    /// Generated images.
    pub generated: usize,
    /// Real images they are compared with; absent where there are none or nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real: Option<usize>,
    /// Real images of `floor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_images: Option<usize>,
    /// Name of the network.
    pub network: String,
    /// SHA-256 of its weights.
    pub network_sha256: String,
}

impl Figure {
    /// A figure with nothing beside it yet.
    pub(super) fn new(network: &dyn Network, (name, value): (&str, f64), better: Better, generated: usize) -> Self {
        Self {
            name: name.to_owned(),
            value,
            deviation: None,
            interval: None,
            floor: None,
            better,
            generated,
            real: None,
            floor_images: None,
            network: network.name().to_owned(),
            network_sha256: network.sha256().to_owned(),
        }
    }
}

/// The images of one class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Name of the class.
    pub name: String,
    /// Generated images.
    pub images: usize,
    /// Share of them that is recognised as this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<f64>,
    /// Share of the real images of `floor` that is recognised as this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_recall: Option<f64>,
    /// Mean L2 distance of two generated images, pixels in [-1, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// Mean L2 distance of two real images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_distance: Option<f64>,
    /// The former divided by the latter; 1 where all real images are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diversity: Option<f64>,
}

/// All that was measured on one set of generated images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whether statistics from a file have this contract: absent without such a file, null where the file does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparable: Option<Option<bool>>,
    /// Why figures are not comparable, and what could not be checked or measured.
    pub notes: Vec<String>,
    /// The figures.
    pub figures: Vec<Figure>,
    /// Each class, where labels are known.
    pub classes: Vec<ClassFigures>,
    /// Nearest training images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbours: Option<Neighbours>,
    /// From images to features.
    pub contract: Contract,
    /// Where the images come from.
    pub provenance: Provenance,
}

impl Evaluation {
    /// Of these figures.
    pub(super) fn new(
        contract: Contract,
        provenance: Provenance,
        figures: Vec<Figure>,
        classes: Vec<ClassFigures>,
    ) -> Self {
        let notes = Vec::new();
        Self { schema: SCHEMA, comparable: None, notes, figures, classes, neighbours: None, contract, provenance }
    }

    /// The figure of this name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

/// Three significant digits, without an exponent where there is room.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-4..1e6).contains(&size) => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

impl fmt::Display for Evaluation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.figures.iter().map(|figure| figure.name.chars().count()).chain([7]).max().unwrap_or(7);
        writeln!(formatter, "{:width$}  {:>9}  {:>19}  {:>9}  images", "measure", "value", "95 % or +-", "real")?;
        for figure in &self.figures {
            let spread = match (figure.interval, figure.deviation) {
                (Some(Interval { low, high }), _) => format!("{} .. {}", number(low), number(high)),
                (None, Some(deviation)) => format!("+- {}", number(deviation)),
                (None, None) => String::new(),
            };
            let floor = figure.floor.map(number).unwrap_or_default();
            let mut images = format!("{} generated", figure.generated);
            if let Some(real) = figure.real {
                images = format!("{images} : {real} real");
            }
            if let Some(floor) = figure.floor_images {
                images = format!("{images} (real: {floor})");
            }
            let value = number(figure.value);
            writeln!(formatter, "{:width$}  {value:>9}  {spread:>19}  {floor:>9}  {images}", figure.name)?;
        }
        let sha256 = self.contract.network_sha256.get(..16).unwrap_or(&self.contract.network_sha256);
        write!(
            formatter,
            "network {} ({} features, SHA-256 {sha256}...)",
            self.contract.network, self.contract.features
        )?;
        if let Some(Some(false)) = self.comparable {
            write!(formatter, "\nNOT COMPARABLE with the figures of others:")?;
        }
        self.notes.iter().try_for_each(|note| write!(formatter, "\n- {note}"))
    }
}
