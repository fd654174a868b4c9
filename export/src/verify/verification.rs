//! A verification that goes on: what needs the network is done, engines follow one after another.

use std::path::Path;

use super::quality::Gate;
use super::report::{Report, RunnerReport};
use super::{ModelFile, runner};
use crate::{BoxError, Error, Profile, Result};

/// Why no engine is asked about bfloat16.
const NO_BF16: &str = "no output was compared: TensorRT and CUDA run bfloat16, no engine on a CPU does";

/// Loads the model at a path into an engine.
pub(crate) type OpenEngine<'a, E> = Box<dyn FnOnce(&Path) -> std::result::Result<Box<E>, BoxError> + 'a>;

/// What a network makes of chosen inputs, for engines to be compared with.
pub(crate) trait Comparison {
    /// An engine for this kind of network.
    type Engine: ?Sized;

    /// candle-onnx with the file in it.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn candle(&self, file: &ModelFile) -> Result<Box<Self::Engine>>;

    /// How far an engine is from the network.
    fn compare(&self, engine: &mut Self::Engine) -> RunnerReport;
}

/// The comparison, and what was found so far.
pub(crate) struct Verification<C> {
    pub(super) comparison: C,
    pub(super) gate: Gate,
    pub(super) report: Report,
}

impl<C: Comparison> Verification<C> {
    /// Asks candle-onnx, or notes why not.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn second_opinion(&mut self, file: &ModelFile) -> Result<()> {
        match runner::why_not_candle(file) {
            Some(reason) => self.note(format!("candle-onnx was not asked: {reason}")),
            None => self.run(self.comparison.candle(file)?.as_mut()),
        }
        Ok(())
    }

    /// Asks candle-onnx and then each engine, which is loaded from `path` when its turn comes.
    ///
    /// # Errors
    /// A file that cannot be read, an engine that cannot be loaded.
    pub(crate) fn ask(&mut self, file: &ModelFile, path: &Path, engines: Vec<OpenEngine<'_, C::Engine>>) -> Result<()> {
        self.second_opinion(file)?;
        if file.profile() == Profile::Bf16 {
            self.note(NO_BF16.to_owned());
            return Ok(());
        }
        for open in engines {
            self.run(open(path).map_err(Error::Engine)?.as_mut());
        }
        Ok(())
    }

    /// Compares an engine.
    pub(crate) fn run(&mut self, engine: &mut C::Engine) {
        let report = self.comparison.compare(engine);
        self.report.failures.extend(report.failures(self.gate));
        self.report.runners.push(report);
    }

    fn note(&mut self, note: String) {
        self.report.notes.push(note);
    }

    /// What was found.
    pub(crate) fn finish(self) -> Report {
        self.report
    }
}
