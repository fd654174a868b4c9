//! Engines are libraries of others: whatever one does with a file that it cannot handle must stay an error here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use drifting_spec::Inputs;

use super::{Engine, EngineError};

/// Characters of an engine's message that are kept: one may quote a whole damaged file.
const LONGEST: usize = 500;

/// Loads an engine; a panic becomes an error, and a message has an end.
pub(super) fn load(
    work: impl FnOnce() -> Result<Box<dyn Engine>, EngineError>,
) -> Result<Box<dyn Engine>, EngineError> {
    // Whatever the panic left half done is dropped with the engine.
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(engine)) => Ok(engine),
        Ok(Err(EngineError::Load { engine, problem })) => {
            Err(EngineError::Load { engine, problem: shortened(&problem) })
        }
        Ok(Err(error)) => Err(error),
        Err(panic) => Err(EngineError::Load { engine: "the engine", problem: shortened(&message(panic.as_ref())) }),
    }
}

/// Runs one batch; a panic becomes an error, and so do numbers that are not finite, which would pass for black pixels.
///
/// # Errors
/// Whatever the engine reports, [`EngineError::NotFinite`].
pub fn run(engine: &mut dyn Engine, inputs: &Inputs) -> Result<Vec<f32>, EngineError> {
    let result = catch_unwind(AssertUnwindSafe(|| engine.run(inputs)));
    let name = engine.info().name;
    let images = match result {
        Ok(Err(EngineError::Run { engine, problem })) => {
            return Err(EngineError::Run { engine, problem: shortened(&problem) });
        }
        Ok(result) => result?,
        Err(panic) => return Err(EngineError::Run { engine: name, problem: shortened(&message(panic.as_ref())) }),
    };
    if images.iter().all(|value| value.is_finite()) { Ok(images) } else { Err(EngineError::NotFinite) }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("it stopped with {:?}", text.unwrap_or("no message"))
}

/// A text of one line and an end that a person reads.
fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() || c == char::REPLACEMENT_CHARACTER { ' ' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(clean).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push_str(" ...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(work: impl FnOnce() -> Result<Box<dyn Engine>, EngineError>) -> String {
        load(work).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn panics_and_long_messages_are_errors_with_an_end() {
        assert_eq!(
            failed(|| panic!("index {} of 3", 7)),
            "the engine cannot load the model: it stopped with \"index 7 of 3\""
        );
        let long = failed(|| Err(EngineError::Load { engine: "rten", problem: "a\n\u{0}é".repeat(1000) }));
        assert!(
            long.starts_with("rten cannot load the model: a  éa  é") && long.ends_with(" ...") && long.len() < 1100,
            "{long}"
        );
        assert_eq!(failed(|| Err(EngineError::NotFinite)), EngineError::NotFinite.to_string());
    }
}
