//! The real side of an evaluation.

use std::path::Path;

use anyhow::Result;
use drifting_spec::ImageShape;
use drifting_train::data::{DataSource, Dataset, Embedded};
use drifting_train::eval::Statistics;

use crate::judge;

/// Real images, or the statistics of some.
pub(super) enum Real {
    Images { name: String, training: Box<Dataset>, test: Box<Dataset> },
    Statistics { name: String, statistics: Box<Statistics> },
}

impl Real {
    /// Reads images of this shape and reports what was left out.
    pub(super) fn images(source: &DataSource, shape: ImageShape) -> Result<Self> {
        let (data, report) = source.open(shape)?;
        eprintln!("{report}");
        let (training, test) = judge::with_test(source, &data)?;
        Ok(Self::Images { name: report.source, training: Box::new(training), test: Box::new(test) })
    }

    /// Reads statistics.
    pub(super) fn statistics(path: &Path) -> Result<Self> {
        let statistics = Box::new(Statistics::open(path)?);
        Ok(Self::Statistics { name: path.display().to_string(), statistics })
    }

    /// Names of the classes; none where nobody says.
    pub(super) fn classes(&self) -> Vec<String> {
        match self {
            Self::Images { training, .. } => training.classes().to_vec(),
            Self::Statistics { statistics, .. } => {
                let classes = statistics.facts.iter().flat_map(|facts| &facts.classes);
                classes.map(|class| class.name.clone()).collect()
            }
        }
    }

    /// What it is called, and the hash of the images.
    pub(super) fn name(&self) -> (String, Option<String>) {
        match self {
            Self::Images { name, training, .. } => (name.clone(), Some(training.sha256().to_owned())),
            Self::Statistics { name, statistics } => {
                (name.clone(), statistics.facts.as_ref().map(|facts| facts.data_sha256.clone()))
            }
        }
    }

    pub(super) fn training(&self) -> Option<&Dataset> {
        match self {
            Self::Images { training, .. } => Some(training),
            Self::Statistics { .. } => None,
        }
    }
}

/// The data that `--data` names: those that come with the program, or a path.
pub(super) fn named(data: &str) -> DataSource {
    let embedded = [Embedded::FashionMnist].into_iter().find(|embedded| embedded.name() == data);
    embedded.map_or_else(|| DataSource::path(data), DataSource::Embedded)
}

/// A short name of a source.
pub(super) fn name(source: &DataSource) -> String {
    match source {
        DataSource::Embedded(embedded) => embedded.name().to_owned(),
        DataSource::Path(source) => source.path.display().to_string(),
    }
}
