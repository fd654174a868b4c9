//! What a generator's graph is given and gives (`drifting_spec::names`), checked where it meets a manifest or a batch.

use drifting_spec::{GeneratorConfig, ImageShape, Inputs, Manifest, Pixels, names};

use super::EngineError;

/// Name and dimensions of every input behind the batch, in the order in which the engines are given them.
pub(super) fn interface(config: &GeneratorConfig) -> Vec<(&'static str, Vec<usize>)> {
    let image = config.image;
    let noise = (names::NOISE, vec![image.channels, image.height, image.width]);
    let style = (config.style_tokens > 0).then(|| (names::STYLE, vec![config.style_tokens]));
    let rest = [(names::CLASS, vec![]), (names::ALPHA, vec![])];
    std::iter::once(noise).chain(style).chain(rest).collect()
}

/// Compares the inputs that a graph declares (dimensions behind the batch, `None` where symbolic) with the manifest's.
pub(super) fn check_interface(
    config: &GeneratorConfig,
    declared: &[(String, Vec<Option<usize>>)],
    outputs: &[String],
) -> Result<(), EngineError> {
    let expected = interface(config);
    for (name, dimensions) in &expected {
        let Some((_, found)) = declared.iter().find(|(declared, _)| declared == name) else {
            return Err(EngineError::Interface(format!("it has no input {name:?}")));
        };
        let fits = found.len() == dimensions.len()
            && found.iter().zip(dimensions).all(|(found, expected)| found.is_none_or(|found| found == *expected));
        if !fits {
            let problem = format!("input {name:?} is {found:?} behind the batch, the manifest says {dimensions:?}");
            return Err(EngineError::Interface(problem));
        }
    }
    if let Some((name, _)) = declared.iter().find(|(name, _)| !expected.iter().any(|(known, _)| known == name)) {
        return Err(EngineError::Interface(format!("it has an input {name:?} that the manifest does not know")));
    }
    if !outputs.iter().any(|output| output == names::IMAGE) {
        return Err(EngineError::Interface(format!("it has no output {:?}", names::IMAGE)));
    }
    Ok(())
}

/// Checks the lengths of a batch's inputs, so that no engine is handed a tensor that does not fit.
pub(super) fn check_inputs(engine: &'static str, config: &GeneratorConfig, inputs: &Inputs) -> Result<(), EngineError> {
    let batch = inputs.batch();
    let lengths = [
        (names::NOISE, inputs.noise.len(), batch * config.image.len()),
        (names::STYLE, inputs.style.len(), batch * config.style_tokens),
        (names::ALPHA, inputs.alpha.len(), batch),
    ];
    let wrong = lengths.iter().find(|(_, found, expected)| found != expected);
    match wrong {
        _ if batch == 0 => Err(EngineError::Run { engine, problem: "an empty batch".to_owned() }),
        Some((name, found, expected)) => {
            let problem = format!("input {name:?} has {found} numbers, a batch of {batch} needs {expected}");
            Err(EngineError::Run { engine, problem })
        }
        None => Ok(()),
    }
}

/// What a graph gives: images of this shape, made of these pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) shape: ImageShape,
    pub(super) pixels: Pixels,
}

impl Output {
    /// The output that `manifest` describes.
    pub(super) fn of(manifest: &Manifest) -> Result<Self, EngineError> {
        let shape = manifest.image().map_err(|error| EngineError::Interface(error.to_string()))?;
        Ok(Self { shape, pixels: manifest.pixels })
    }

    /// Dimensions of a batch.
    pub(super) fn dims(&self, batch: usize) -> [usize; 4] {
        [batch, self.shape.channels, self.shape.height, self.shape.width]
    }

    /// Checks the length of a batch.
    pub(super) fn check(&self, batch: usize, found: usize) -> Result<(), EngineError> {
        let expected = batch * self.shape.len();
        if found == expected {
            return Ok(());
        }
        Err(EngineError::Interface(format!("its output has {found} numbers for {batch} images, not {expected}")))
    }
}

/// Levels of pixels as numbers, which is how the rest of the crate knows images.
pub(super) fn numbers(levels: &[u8]) -> Vec<f32> {
    levels.iter().copied().map(f32::from).collect()
}

#[cfg(test)]
mod tests {
    use drifting_spec::AlphaRange;

    use super::*;

    fn config() -> GeneratorConfig {
        let image = ImageShape { channels: 1, height: 4, width: 4 };
        GeneratorConfig { style_tokens: 2, ..GeneratorConfig::new(image, 2, 8, 1, 1, 3) }
    }

    fn declared() -> Vec<(String, Vec<Option<usize>>)> {
        let owned =
            |(name, dimensions): (&str, Vec<usize>)| (name.to_owned(), dimensions.into_iter().map(Some).collect());
        interface(&config()).into_iter().map(owned).collect()
    }

    #[test]
    fn a_graph_must_fit_its_manifest() {
        let image = [names::IMAGE.to_owned()];
        let problem = |declared: &[_], outputs: &[String]| match check_interface(&config(), declared, outputs) {
            Err(error) => error.to_string(),
            Ok(()) => String::new(),
        };
        assert_eq!(problem(&declared(), &image), "");
        assert!(problem(&declared()[1..], &image).contains("no input \"noise\""));
        assert!(problem(&declared(), &[]).contains("no output \"image\""));
        let mut wider = declared();
        wider[0].1[2] = Some(5);
        assert!(problem(&wider, &image).contains("\"noise\" is"));
        wider[0].1[2] = None;
        assert_eq!(problem(&wider, &image), "");
        wider.push(("steps".to_owned(), vec![]));
        assert!(problem(&wider, &image).contains("\"steps\""));
    }

    #[test]
    fn a_batch_must_fit_the_model() {
        let inputs = Inputs::seeded(&config(), 1, &[(0, 1.0), (1, 1.0)]);
        assert!(check_inputs("test", &config(), &inputs).is_ok());
        let short = Inputs { style: vec![0], ..inputs };
        assert!(check_inputs("test", &config(), &short).unwrap_err().to_string().contains("\"style\" has 1"));
        assert!(check_inputs("test", &config(), &Inputs::default()).is_err());
        let alpha = AlphaRange { min: 1.0, max: 2.0, default: 1.0 };
        let output = Output::of(&Manifest::new("test".to_owned(), config(), alpha)).unwrap();
        assert!(output.check(2, 32).is_ok() && output.check(2, 31).is_err());
        assert_eq!((output.dims(2), numbers(&[0, 255])), ([2, 1, 4, 4], vec![0.0, 255.0]));
    }
}
