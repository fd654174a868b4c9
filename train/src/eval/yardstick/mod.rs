//! Real images, or their statistics, that generated ones are held against.

mod figures;

use super::bootstrap::BLOCKS;
use super::figure::Evaluation;
use super::look::{Keep, Plan, Seen, capped};
use super::quality::PAIRED;
use super::{
    ClassCount, Contract, EvalError, Facts, Floor, Gaussian, ImageSet, Manifold, Measure, Neighbours, Network, Overlap,
    Provenance, Result, Spread, Statistics, frechet_distance, kernel_distance, neighbours,
};

/// Images of each side whose features are compared one by one, at most: as many as the drifting paper's evaluation takes.
pub const COMPARED: usize = 10_000;
/// Features up to which a Fréchet distance is resampled.
const RESAMPLED: usize = 512;
/// Classes of a network from which on the Inception Score is a usual measure.
const SCORED: usize = 1000;
/// Numbers of pictures that are kept for the distances of pairs, at most.
const PICTURE_NUMBERS: usize = 1 << 27;

/// What is measured, in what, and by which seed.
#[derive(Clone)]
pub struct Settings<'a> {
    /// The network.
    pub network: &'a dyn Network,
    /// What is measured.
    pub measures: Vec<Measure>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Whether generated images show these classes.
    pub labelled: bool,
    /// Seed of all that is chosen.
    pub seed: u64,
}

/// The real side of a comparison.
pub struct Yardstick<'a> {
    settings: Settings<'a>,
    reference: Reference,
    comparable: Option<Option<bool>>,
    notes: Vec<String>,
}

enum Reference {
    Images(Box<Known>),
    Statistics(Box<Statistics>),
}

/// What is known of real images.
struct Known {
    training: Seen,
    gaussian: Gaussian,
    test: Seen,
    manifold: Option<Manifold>,
    floor: Floors,
}

/// The test images as if they were generated.
#[derive(Default)]
struct Floors {
    distance: Option<f64>,
    kernel: Option<Spread>,
    overlap: Option<Overlap>,
}

impl Settings<'_> {
    /// Whether this measure was asked for.
    #[must_use]
    pub fn wants(&self, measure: Measure) -> bool {
        self.measures.contains(&measure)
    }

    /// All measures that network, labels and the real side allow; the Inception Score where there are as many classes as
    /// it was made for.
    #[must_use]
    pub fn possible(&self, single_images: bool) -> Vec<Measure> {
        let labelled = self.labelled;
        let possible = |measure: &Measure| match measure {
            Measure::Accuracy => labelled && self.network.classes() == self.classes.len(),
            Measure::Score => self.network.classes() >= SCORED,
            measure => (labelled || !measure.needs_labels()) && (single_images || !measure.needs_images()),
        };
        Measure::ALL.into_iter().filter(possible).collect()
    }

    fn check(&self) -> Result<()> {
        let (known, given) = (self.network.classes(), self.classes.len());
        if self.wants(Measure::Accuracy) && known != given {
            let problem = format!("{} knows {known} classes, the data have {given}", self.network.name());
            return Err(EvalError::Samples(format!("accuracy: {problem}")));
        }
        Ok(())
    }

    /// What is to be kept of a set that is compared with the reference.
    fn plan(&self, set: &dyn ImageSet) -> Plan {
        let rows = [Measure::Kid, Measure::Precision, Measure::Density, Measure::Neighbours];
        let rows = rows.into_iter().any(|measure| self.wants(measure));
        let pictures = PICTURE_NUMBERS / (self.classes.len() * set.shape().len()).max(1);
        let small = self.network.features() <= RESAMPLED;
        Plan {
            keep: if rows { Keep::Some(COMPARED) } else { Keep::Nothing },
            score: self.wants(Measure::Score),
            blocks: if self.wants(Measure::Frechet) && small { BLOCKS } else { 1 },
            pictures: if self.wants(Measure::Diversity) { pictures.clamp(2, PAIRED) } else { 0 },
            seed: self.seed,
        }
    }
}

impl Known {
    fn new(settings: &Settings<'_>, training: Seen, test: Seen) -> Result<Self> {
        let gaussian = training.gaussian()?;
        let manifold = match settings.wants(Measure::Precision) || settings.wants(Measure::Density) {
            true => Some(Manifold::of(&capped(&training, COMPARED, settings.seed)?)?),
            false => None,
        };
        let mut real = Self { training, gaussian, test, manifold, floor: Floors::default() };
        real.floor = Floors {
            distance: match settings.wants(Measure::Frechet) {
                true => Some(frechet_distance(&real.test.gaussian()?, &real.gaussian)?),
                false => None,
            },
            kernel: real.kernel(settings, &real.test)?,
            overlap: real.overlap(&real.test)?,
        };
        Ok(real)
    }

    /// `None` where it was not asked for.
    pub(super) fn kernel(&self, settings: &Settings<'_>, seen: &Seen) -> Result<Option<Spread>> {
        if !settings.wants(Measure::Kid) {
            return Ok(None);
        }
        let training = capped(&self.training, COMPARED, settings.seed)?;
        kernel_distance(&seen.rows, &training, settings.seed).map(Some)
    }

    /// `None` where it was not asked for.
    pub(super) fn overlap(&self, seen: &Seen) -> Result<Option<Overlap>> {
        self.manifold.as_ref().map(|manifold| manifold.overlap(&Manifold::of(&seen.rows)?)).transpose()
    }
}

impl<'a> Yardstick<'a> {
    /// Lets the network look at the training images, which are the reference, and at test images, which give the floor.
    /// As many test images as generated ones should be given: most measures depend on their number.
    ///
    /// # Errors
    /// Images that cannot be read or judged; too few of them; the accuracy in a network of other classes.
    pub fn of_images(
        settings: Settings<'a>,
        training: &mut dyn ImageSet,
        test: &mut dyn ImageSet,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        settings.check()?;
        let plan = settings.plan(training);
        let keep = if settings.wants(Measure::Neighbours) { Keep::All } else { plan.keep };
        let plan = Plan { keep, score: false, blocks: 1, ..plan };
        let training = Seen::of(settings.network, training, plan, progress)?;
        let plan = Plan { blocks: 1, ..settings.plan(test) };
        let test = Seen::of(settings.network, test, plan, &mut |images| progress(training.images + images))?;
        let reference = Reference::Images(Box::new(Known::new(&settings, training, test)?));
        Ok(Self { settings, reference, comparable: None, notes: Vec::new() })
    }

    /// Takes statistics from a file. With `mismatched` those of another contract are taken as well, and every evaluation
    /// says that it is not comparable.
    ///
    /// # Errors
    /// Measures that compare single images, or the accuracy in a network of other classes; statistics of another contract or of features of another length.
    pub fn of_statistics(
        settings: Settings<'a>,
        statistics: Statistics,
        contract: &Contract,
        mismatched: bool,
    ) -> Result<Self> {
        settings.check()?;
        if let Some(measure) = settings.measures.iter().find(|measure| measure.needs_images()) {
            let problem = format!("{} compares single images: statistics are not enough for it", measure.name());
            return Err(EvalError::Samples(problem));
        }
        let fit = statistics.fit(contract)?;
        if !(fit.differences.is_empty() || mismatched) {
            return Err(EvalError::Contract(fit.differences.join("; ")));
        }
        let comparable = match (fit.differences.is_empty(), fit.unknown.is_empty()) {
            (false, _) => Some(false),
            (true, false) => None,
            (true, true) => Some(true),
        };
        let notes = fit.differences.iter().map(|field| format!("the statistics differ in {field}")).chain(fit.unknown);
        let notes = notes.collect();
        let reference = Reference::Statistics(Box::new(statistics));
        Ok(Self { settings, reference, comparable: Some(comparable), notes })
    }

    /// Mean and covariance of the reference.
    #[must_use]
    pub fn gaussian(&self) -> &Gaussian {
        match &self.reference {
            Reference::Images(real) => &real.gaussian,
            Reference::Statistics(statistics) => &statistics.gaussian,
        }
    }

    /// The Fréchet distance of the test images, and their number.
    #[must_use]
    pub fn floor(&self) -> Option<(f64, usize)> {
        match &self.reference {
            Reference::Images(real) => Some((real.floor.distance?, real.test.images)),
            Reference::Statistics(statistics) => {
                let floor = statistics.facts.as_ref()?.floor?;
                Some((floor.distance, floor.images))
            }
        }
    }

    /// The reference as a file holds it; `data_sha256` is the hash of its images.
    #[must_use]
    pub fn statistics(&self, contract: Contract, data_sha256: &str, program: &str) -> Statistics {
        let real = match &self.reference {
            Reference::Images(real) => real,
            Reference::Statistics(statistics) => return Statistics::clone(statistics),
        };
        let gaussian = real.gaussian.clone();
        let count = |class| real.training.labels.iter().filter(|label| **label == Some(class)).count();
        let names = self.settings.classes.iter().enumerate();
        let facts = Facts {
            contract,
            images: gaussian.count(),
            data_sha256: data_sha256.to_owned(),
            classes: names.map(|(class, name)| ClassCount { name: name.clone(), images: count(class) }).collect(),
            floor: self.floor().map(|(distance, images)| Floor { distance, images }),
            program: program.to_owned(),
        };
        Statistics { gaussian, facts: Some(facts) }
    }

    /// Measures generated images. `provenance` is completed with the hash of the images.
    ///
    /// # Errors
    /// Images that cannot be made or judged, or are too few for a measure; labels that are not known.
    pub fn measure(
        &self,
        generated: &mut dyn ImageSet,
        contract: Contract,
        provenance: Provenance,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Evaluation> {
        let settings = &self.settings;
        let plan = settings.plan(generated);
        let mut seen = Seen::of(settings.network, generated, plan, progress)?;
        if !settings.labelled {
            seen.labels.fill(None);
        }
        let unknown = seen.labels.iter().filter(|label| label.is_none()).count();
        if let Some(measure) = settings.measures.iter().find(|measure| measure.needs_labels() && unknown > 0) {
            let problem = format!("the classes of {unknown} images are not known, which {} needs", measure.name());
            return Err(EvalError::Samples(problem));
        }
        let classes = self.classes(&seen)?;
        let neighbours = self.neighbours(&seen)?;
        let figures = self.figures(&seen, &classes, neighbours.as_ref())?;
        let provenance = Provenance { images_sha256: Some(seen.sha256), ..provenance };
        let evaluation = Evaluation::new(contract, provenance, figures, classes);
        Ok(Evaluation { comparable: self.comparable, notes: self.notes.clone(), neighbours, ..evaluation })
    }

    fn images(&self) -> Option<&Known> {
        match &self.reference {
            Reference::Images(real) => Some(real),
            Reference::Statistics(_) => None,
        }
    }

    fn neighbours(&self, seen: &Seen) -> Result<Option<Neighbours>> {
        let wanted = self.settings.wants(Measure::Neighbours);
        let Some(real) = self.images().filter(|_| wanted) else { return Ok(None) };
        neighbours(&seen.rows, &seen.numbers, [&real.training.rows, &real.test.rows]).map(Some)
    }
}

#[cfg(test)]
mod tests;
