//! What models are called in addresses.

use std::path::{Path, PathBuf};

/// Characters of a name.
const LONGEST: usize = 64;

/// Models whose names cannot tell them apart.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// There is no model.
    #[error("there is no model to serve")]
    None,
    /// No address can hold the name.
    #[error(
        "a model cannot be called {0:?}: letters, digits, '.', '_' and '-' make a name, a letter or a digit first, \
         {LONGEST} at most"
    )]
    Invalid(String),
    /// Two models have one name.
    #[error("two models are called {name:?}: {first} and {second}; give one of them a name of its own: NAME={second}")]
    Taken {
        /// The name.
        name: String,
        /// The file of the first.
        first: String,
        /// The file of the second.
        second: String,
    },
}

/// Whether `name` can stand in an address as it is: letters, digits, `.`, `_` and `-`, a letter or a digit first.
#[must_use]
pub fn is_model_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.len() <= LONGEST && name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(fits)
}

/// The name of a model that was given none: what its manifest says, else that of its file, as far as an address can
/// hold it.
pub(super) fn usual_name(manifest: &str, file: &Path) -> String {
    if is_model_name(manifest) {
        return manifest.to_owned();
    }
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let fitting = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' };
    let name: String = stem.chars().map(fitting).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "model".to_owned() } else { name.chars().take(LONGEST).collect() }
}

/// Checks the names of models and their files.
///
/// # Errors
/// See [`NameError`].
pub(super) fn check(models: &[(&str, Option<&PathBuf>)]) -> Result<(), NameError> {
    if models.is_empty() {
        return Err(NameError::None);
    }
    for (position, (name, file)) in models.iter().enumerate() {
        if !is_model_name(name) {
            return Err(NameError::Invalid((*name).to_owned()));
        }
        if let Some((_, earlier)) = models[..position].iter().find(|(earlier, _)| earlier == name) {
            let text = |file: &Option<&PathBuf>| file.map_or("FILE".to_owned(), |path| path.display().to_string());
            return Err(NameError::Taken { name: (*name).to_owned(), first: text(earlier), second: text(file) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_in_an_address() {
        assert!(["a", "fashion-28.v2_x", "0"].into_iter().all(is_model_name));
        let long = "a".repeat(65);
        let wrong = ["", ".", "..", "-a", "a b", "a/b", "été", "a%20", &long];
        assert!(wrong.into_iter().all(|name| !is_model_name(name)));
    }

    #[test]
    fn the_manifest_names_a_model_or_else_its_file() {
        let file = Path::new("/models/base v2.onnx");
        assert_eq!(usual_name("fashion", file), "fashion");
        assert_eq!(usual_name("Fashion MNIST", file), "base-v2");
        assert_eq!(usual_name("", Path::new("..é")), "model");
        assert!(is_model_name(&usual_name("", Path::new(&"x".repeat(100)))));
    }

    #[test]
    fn names_that_are_taken_are_told_with_both_files() {
        let (a, b) = (PathBuf::from("a.onnx"), PathBuf::from("b.onnx"));
        let error = check(&[("x", Some(&a)), ("x", Some(&b))]).unwrap_err().to_string();
        assert!(error.contains("a.onnx and b.onnx") && error.contains("NAME=b.onnx"), "{error}");
        assert!(check(&[("x", Some(&a)), ("X", Some(&a))]).is_ok());
        assert!(check(&[("x y", None)]).unwrap_err().to_string().contains("\"x y\""));
        assert!(check(&[]).unwrap_err().to_string().contains("no model"));
    }
}
