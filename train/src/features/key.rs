//! Feature keys by name, and which of them a run uses.

use drifting_spec::ImageShape;

use super::{FeatureError, MapInfo, PixelKey, Statistic};

/// What a key is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The image itself.
    Image(PixelKey),
    /// A map, by its position among those of all encoders.
    Map(usize, Statistic),
}

/// A feature key: T vectors of D numbers of every image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureKey {
    name: String,
    locations: usize,
    dim: usize,
    pub(super) origin: Origin,
}

impl FeatureKey {
    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Vectors per image, T.
    #[must_use]
    pub fn locations(&self) -> usize {
        self.locations
    }

    /// Length of a vector, D.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn is_of_map(&self, index: usize) -> bool {
        matches!(self.origin, Origin::Map(map, _) if map == index)
    }

    fn of_image(key: PixelKey, image: ImageShape) -> Result<Self, FeatureError> {
        let (locations, dim) = key.size(image)?;
        Ok(Self { name: key.to_string(), locations, dim, origin: Origin::Image(key) })
    }
}

/// All keys that have no number of their own: `global` and those of the maps in their order.
///
/// # Errors
/// Two keys of one name.
pub fn available_keys(image: ImageShape, maps: &[MapInfo]) -> Result<Vec<FeatureKey>, FeatureError> {
    let mut keys = vec![FeatureKey::of_image(PixelKey::Global, image)?];
    for (index, map) in maps.iter().enumerate() {
        for (name, statistic) in &map.keys {
            if keys.iter().any(|key| key.name == *name) {
                return Err(FeatureError::Keys(format!("two maps have a key {name}")));
            }
            let (locations, dim) = (statistic.locations(map.shape), map.shape.channels);
            keys.push(FeatureKey { name: name.clone(), locations, dim, origin: Origin::Map(index, *statistic) });
        }
    }
    Ok(keys)
}

/// The keys that `names` ask for, each once, in the order in which they are asked for: `all`, names, patterns with `*`
/// and `?`, and keys of the image with a number, such as `patch_7`.
///
/// # Errors
/// A name that is no key, a pattern that matches none, a key that does not fit the image or is named twice, no key.
pub fn select_keys(
    available: &[FeatureKey],
    image: ImageShape,
    names: &[String],
) -> Result<Vec<FeatureKey>, FeatureError> {
    let mut chosen: Vec<FeatureKey> = Vec::new();
    for (position, name) in names.iter().enumerate() {
        if names[..position].contains(name) {
            return Err(FeatureError::Keys(format!("{name} is named twice")));
        }
        let pattern = if name == "all" { "*" } else { name };
        let mut found: Vec<_> = available.iter().filter(|key| matches(pattern, &key.name)).cloned().collect();
        if found.is_empty() {
            let key = PixelKey::parse(name).ok_or_else(|| unknown(name, available))?;
            found.push(FeatureKey::of_image(key, image)?);
        }
        found.retain(|key| !chosen.contains(key));
        chosen.append(&mut found);
    }
    if chosen.is_empty() { Err(FeatureError::Keys("needs at least one key".to_owned())) } else { Ok(chosen) }
}

fn unknown(name: &str, available: &[FeatureKey]) -> FeatureError {
    let known: Vec<_> = available.iter().map(|key| key.name.as_str()).collect();
    FeatureError::Unknown { name: name.to_owned(), known: known.join(", ") }
}

/// Whether `pattern`, in which `*` stands for any characters and `?` for any one, is `name`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = name.chars();
    match (pattern.chars().next(), rest.next()) {
        (None, first) => first.is_none(),
        (Some('*'), first) => matches(&pattern[1..], name) || (first.is_some() && matches(pattern, rest.as_str())),
        (Some(wanted), Some(first)) if wanted == '?' || wanted == first => {
            matches(&pattern[wanted.len_utf8()..], rest.as_str())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use drifting_spec::MaeConfig;

    use super::super::{convnext_maps, mae_maps};
    use super::*;

    fn paper_maps(name: &str) -> Vec<MapInfo> {
        mae_maps(&MaeConfig::published(name).unwrap())
    }

    fn names(keys: &[FeatureKey]) -> Vec<&str> {
        keys.iter().map(FeatureKey::name).collect()
    }

    const LATENT: ImageShape = ImageShape { channels: 4, height: 32, width: 32 };

    #[test]
    fn the_papers_keys_are_86_with_6734_vectors() {
        for (encoder, numbers) in [("mae_latent_256", 2_474_500), ("mae_latent_640", 6_180_100)] {
            let keys = available_keys(LATENT, &paper_maps(encoder)).unwrap();
            let vectors: usize = keys.iter().map(FeatureKey::locations).sum();
            let found: usize = keys.iter().map(|key| key.locations * key.dim).sum();
            assert_eq!((keys.len(), vectors, found), (86, 6734, numbers));
        }
        let mut pixel = paper_maps("mae_pixel_640");
        let stage = |(stage, (side, width)): (usize, (usize, usize))| (format!("convnext{stage}"), [side, side, width]);
        let stages = [(56, 128), (28, 256), (14, 512), (7, 1024)].into_iter().enumerate().map(stage);
        let pooled = ["global_mean", "global_std"].map(|name| (name.to_owned(), [1, 1, 1024]));
        pixel.extend(convnext_maps(stages.chain(pooled).collect()));
        let image = ImageShape { channels: 3, height: 256, width: 256 };
        assert_eq!(available_keys(image, &pixel).unwrap().len(), 99);
    }

    #[test]
    fn keys_are_chosen_by_name_and_pattern() {
        let available = available_keys(LATENT, &paper_maps("mae_latent_256")).unwrap();
        let select = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|name| (*name).to_owned()).collect();
            select_keys(&available, LATENT, &wanted)
        };
        assert_eq!(select(&["all"]).unwrap(), available);
        let stages = ["layer1_mean", "layer2_mean", "layer3_mean", "layer4_mean"];
        assert_eq!(
            names(&select(&["layer?_mean", "patch_8", "*1_mean"]).unwrap()),
            [&stages[..], &["patch_8", "conv1_mean"]].concat()
        );
        assert_eq!(select(&["layer2_blk4_std_2"]).unwrap()[0].locations(), 64);
        for (wanted, problem) in [
            (&["layer5"][..], "\"layer5\" is no feature key; there are global, norm_x, conv1, conv1_mean,"),
            (&["nothing*"], "\"nothing*\" is no feature key"),
            (&["global", "global"], "global is named twice"),
            (&["patch_5"], "patch_5 needs an image whose sides are multiples of 5"),
            (&[], "needs at least one key"),
        ] {
            let message = select(wanted).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
    }
}
