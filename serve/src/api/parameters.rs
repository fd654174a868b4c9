//! From names and values to an order, or to an error that names the parameter and what it may be.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::str::FromStr;

use axum::http::HeaderMap;
use drifting_spec::{Manifest, Stream};
use serde_json::json;

use super::error::{Allowed, ApiError};
use super::format::Format;
use crate::worker::Order;

/// Names that an error lists; `/info` has them all.
const LISTED_NAMES: usize = 32;

/// Every parameter of `POST /generate`.
pub(super) const NAMES: [&str; 6] = ["class", "alpha", "seed", "n", "format", "grid"];

/// In place of a class: one that the seed chooses.
const RANDOM: &str = "random";

/// What `POST /generate` was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Parameters {
    pub(super) order: Order,
    pub(super) format: Format,
    /// Images side by side on a sheet; as many as make it square if 0.
    pub(super) columns: usize,
}

/// Reads the parameters of `POST /generate`. `class` has to be given; a seed that is not is drawn, and a format that is
/// not is the one that `headers` accept best.
///
/// # Errors
/// 400 for what cannot be read (syntax, unknown or repeated names), 406 for headers that accept no format, 422 for what
/// is outside of its range.
pub(super) fn parse(
    pairs: &[(String, String)],
    headers: &HeaderMap,
    manifest: &Manifest,
    max_images: usize,
) -> Result<Parameters, ApiError> {
    check_names(pairs)?;
    let value = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let alpha = value("alpha").map_or(Ok(manifest.alpha.default), |text| alpha(text, manifest))?;
    let seed = value("seed").map_or_else(|| Ok(random_seed()), seed)?;
    let class = class(value("class"), seed, manifest)?;
    let count = value("n").map_or(Ok(NonZeroUsize::MIN), |text| count(text, max_images))?;
    let format = value("format").map_or_else(|| Format::accepted(headers), Format::named)?;
    let columns = value("grid").map_or(Ok(0), |text| columns(text, format, max_images))?;
    Ok(Parameters { order: Order { class, alpha, seed, count }, format, columns })
}

/// Every name is known and given once.
fn check_names(pairs: &[(String, String)]) -> Result<(), ApiError> {
    for (position, (name, _)) in pairs.iter().enumerate() {
        if !NAMES.contains(&name.as_str()) {
            let hint = nearest(name, NAMES).map(|known| format!("; did you mean {known:?}?")).unwrap_or_default();
            let message = format!("there is no parameter {name:?}{hint}");
            let known = Allowed::OneOf(NAMES.map(str::to_owned).into());
            return Err(ApiError::syntax(name, "unknown_parameter", message).with_allowed(known));
        }
        if pairs[..position].iter().any(|(earlier, _)| earlier == name) {
            let message = format!("{name} is given more than once; query and body count together");
            return Err(ApiError::syntax(name, "repeated_parameter", message));
        }
    }
    Ok(())
}

/// A number, a name or [`RANDOM`]; an empty one counts as missing. A class of that name goes first.
pub(super) fn class(text: Option<&str>, seed: u64, manifest: &Manifest) -> Result<usize, ApiError> {
    let classes = manifest.generator.classes;
    let names = manifest.classes.iter().take(LISTED_NAMES).cloned().collect();
    let allowed = Allowed::Class { min: 0, max: classes - 1, names };
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        let message = "class is missing: give it by number, by name or as \"random\"";
        return Err(ApiError::syntax("class", "missing_parameter", message).with_allowed(allowed));
    };
    let drawn = || text.trim().eq_ignore_ascii_case(RANDOM).then(|| Stream::new(seed, "class", 0).below(classes));
    manifest.class(text).or_else(drawn).ok_or_else(|| {
        let known = manifest.classes.iter().map(String::as_str);
        let hint = nearest(text, known).map(|known| format!("; did you mean {known:?}?")).unwrap_or_default();
        let message = format!("class {text:?} is none of the model's {classes} classes{hint}");
        ApiError::range("class", message, allowed)
    })
}

/// Within the trained range; neither NaN nor infinity is.
pub(super) fn alpha(text: &str, manifest: &Manifest) -> Result<f32, ApiError> {
    let range = manifest.alpha;
    let allowed = Allowed::Range { min: json!(range.min), max: json!(range.max) };
    let alpha: f32 = number("alpha", text, &allowed)?;
    if range.contains(alpha) {
        return Ok(alpha);
    }
    let message = format!("alpha {text} is outside of the trained range {} to {}", range.min, range.max);
    Err(ApiError::range("alpha", message, allowed))
}

/// Any 64-bit number. What is a larger whole number is out of range, not a syntax error; JSON may have it as 1.8e19.
pub(super) fn seed(text: &str) -> Result<u64, ApiError> {
    let allowed = Allowed::Range { min: json!(0), max: json!(u64::MAX) };
    let too_large = || text.parse::<f64>().is_ok_and(|number| number.is_finite() && number >= u64::MAX as f64);
    match text.parse() {
        Ok(seed) => Ok(seed),
        Err(_) if too_large() => {
            Err(ApiError::range("seed", format!("seed {text} is larger than {}", u64::MAX), allowed))
        }
        Err(_) => number("seed", text, &allowed),
    }
}

/// At least one image.
fn count(text: &str, max_images: usize) -> Result<NonZeroUsize, ApiError> {
    let allowed = Allowed::Range { min: json!(1), max: json!(max_images) };
    let count: u64 = number("n", text, &allowed)?;
    let fits = usize::try_from(count).ok().and_then(NonZeroUsize::new).filter(|count| count.get() <= max_images);
    fits.ok_or_else(|| ApiError::range("n", format!("n is {count}, not between 1 and {max_images}"), allowed))
}

/// Images in a row of the sheet, for formats that have one; 0 leaves it to the server.
fn columns(text: &str, format: Format, max_images: usize) -> Result<usize, ApiError> {
    let allowed = Allowed::Range { min: json!(0), max: json!(max_images) };
    let columns: u64 = number("grid", text, &allowed)?;
    let columns = usize::try_from(columns).ok().filter(|&columns| columns <= max_images).ok_or_else(|| {
        ApiError::range("grid", format!("grid is {columns}, not between 0 and {max_images}"), allowed)
    })?;
    if columns > 0 && format.longest_side().is_none() {
        let message = format!("format {} has every image by itself and no sheet with columns", format.name());
        let none = Allowed::Range { min: json!(0), max: json!(0) };
        return Err(ApiError::range("grid", message, none));
    }
    Ok(columns)
}

/// A number of type `T`, else 400.
fn number<T: FromStr>(parameter: &str, text: &str, allowed: &Allowed) -> Result<T, ApiError> {
    let message = || format!("{parameter} {text:?} is not a number of the right kind");
    let error = |_| ApiError::syntax(parameter, "invalid_parameter", message()).with_allowed(allowed.clone());
    text.parse().map_err(error)
}

/// The known word that was probably meant.
pub(super) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase();
    let likeness = |word: &str| strsim::jaro_winkler(&text, &word.to_lowercase());
    let scored = known.into_iter().map(|word| (likeness(word), word));
    scored.filter(|(likeness, _)| *likeness > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}

/// A seed that a person can read out and type again: 32 random bits, from the keys that the standard library draws.
pub(super) fn random_seed() -> u64 {
    RandomState::new().hash_one("seed") >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::manifest;

    fn read(query: &[(&str, &str)]) -> Result<Parameters, ApiError> {
        let pairs: Vec<_> = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(&pairs, &HeaderMap::new(), &manifest(), 64)
    }

    #[test]
    fn classes_go_by_number_and_by_name_and_the_rest_has_defaults() {
        let Parameters { order, format, columns } = read(&[("class", "bag")]).unwrap();
        assert_eq!((order.class, order.alpha, order.count.get(), format, columns), (2, 1.5, 1, Format::Png, 0));
        let all = [
            ("class", "3"),
            ("alpha", "2.5"),
            ("seed", "18446744073709551615"),
            ("n", "4"),
            ("format", "webp"),
            ("grid", "3"),
        ];
        let Parameters { order, format, columns } = read(&all).unwrap();
        let count = NonZeroUsize::new(4).unwrap();
        assert_eq!(order, Order { class: 3, alpha: 2.5, seed: u64::MAX, count });
        assert_eq!((format, columns), (Format::Webp, 3));
    }

    #[test]
    fn seeds_are_drawn_anew() {
        let seed = || read(&[("class", "0")]).unwrap().order.seed;
        let drawn: std::collections::BTreeSet<u64> = (0..8).map(|_| seed()).collect();
        assert!(drawn.len() > 6 && drawn.iter().all(|&seed| u32::try_from(seed).is_ok()), "{drawn:?}");
    }

    #[test]
    fn a_random_class_is_a_function_of_the_seed() {
        let class = |seed: u64| read(&[("class", "Random"), ("seed", &seed.to_string())]).unwrap().order.class;
        let classes: std::collections::BTreeSet<_> = (0..64).map(class).collect();
        assert_eq!(classes.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!((0..64).map(class).collect::<Vec<_>>(), (0..64).map(class).collect::<Vec<_>>());
        // A class that bears the name is meant by it.
        let mut manifest = manifest();
        manifest.classes[3] = RANDOM.to_owned();
        assert!((0..16).all(|seed| super::class(Some(RANDOM), seed, &manifest).unwrap() == 3));
    }

    /// Query, status, parameter at fault, words of the message.
    type Case = (&'static [(&'static str, &'static str)], u16, &'static str, &'static str);

    #[test]
    fn what_is_wrong_is_named_with_what_is_right() {
        let cases: [Case; 23] = [
            (&[], 400, "class", "missing"),
            (&[("class", "")], 400, "class", "missing"),
            (&[("class", "5")], 422, "class", "none of the model's 5"),
            (&[("class", "-1")], 422, "class", "none of"),
            (&[("class", "boots")], 422, "class", "did you mean \"Boot\""),
            (&[("class", "0"), ("alpha", "0.99")], 422, "alpha", "1 to 4"),
            (&[("class", "0"), ("alpha", "NaN")], 422, "alpha", "1 to 4"),
            (&[("class", "0"), ("alpha", "-inf")], 422, "alpha", "1 to 4"),
            (&[("class", "0"), ("alpha", "1,5")], 400, "alpha", "not a number"),
            (&[("class", "0"), ("alpha", "")], 400, "alpha", "not a number"),
            (&[("class", "0"), ("seed", "-1")], 400, "seed", "not a number"),
            (&[("class", "0"), ("seed", "18446744073709551616")], 422, "seed", "larger than"),
            (&[("class", "0"), ("seed", "1.8446744073709552e19")], 422, "seed", "larger than"),
            (&[("class", "0"), ("seed", "inf")], 400, "seed", "not a number"),
            (&[("class", "0"), ("n", "0")], 422, "n", "between 1 and 64"),
            (&[("class", "0"), ("n", "65")], 422, "n", "between 1 and 64"),
            (&[("class", "0"), ("n", "two")], 400, "n", "not a number"),
            (&[("class", "0"), ("format", "gif")], 422, "format", "not offered"),
            (&[("class", "0"), ("grid", "65")], 422, "grid", "between 0 and 64"),
            (&[("class", "0"), ("grid", "-1")], 400, "grid", "not a number"),
            (&[("class", "0"), ("grid", "1"), ("format", "npy")], 422, "grid", "every image by itself"),
            (&[("class", "0"), ("alhpa", "2")], 400, "alhpa", "did you mean \"alpha\""),
            (&[("class", "0"), ("class", "0")], 400, "class", "more than once"),
        ];
        for (query, status, parameter, words) in cases {
            let error = read(query).unwrap_err();
            let details = &error.details;
            assert_eq!((error.status.as_u16(), details.parameter.as_deref()), (status, Some(parameter)), "{query:?}");
            assert!(details.message.contains(words), "{query:?}: {}", details.message);
            assert!(details.allowed.is_some() || error.code == "repeated_parameter", "{query:?}");
        }
    }
}
