//! A source read into memory as a whole.

use std::path::Path;

use drifting_spec::{ImageShape, Stream};
use rayon::prelude::*;

use super::sources::{Item, Source};
use super::{Augment, DataError, Dataset, OnBad, Result, Skipped};

/// Bad files that an error message names.
const NAMED: usize = 5;

/// Reads all images of a source, fitted to `shape`, on all processors. `path` is for messages.
pub(super) fn collect(
    source: &dyn Source,
    shape: ImageShape,
    on_bad: OnBad,
    path: &Path,
) -> Result<(Dataset, Vec<Skipped>)> {
    if !matches!(shape.channels, 1 | 3) {
        let problem = format!("images have 1 or 3 channels, but the generator is set to {}", shape.channels);
        return Err(DataError::file(path, problem));
    }
    let read = |index| match fitted(source, shape, index) {
        Ok(image) => Ok(Ok(image)),
        Err(DataError::Image { name, problem }) => Ok(Err(Skipped { path: name.into(), problem })),
        Err(error) => Err(error),
    };
    let read: Vec<_> = (0..source.len()).into_par_iter().map(read).collect::<Result<_>>()?;
    let (mut pixels, mut labels, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for (index, image) in read.into_iter().enumerate() {
        match image {
            Ok(image) => {
                pixels.extend(image);
                labels.push(source.label(index));
            }
            Err(bad) => skipped.push(bad),
        }
    }
    if on_bad == OnBad::Refuse && !skipped.is_empty() {
        return Err(DataError::file(path, refusal(&skipped)));
    }
    let data = Dataset::new(shape, pixels, labels, source.classes().to_vec());
    let data = data.map_err(|error| match skipped.is_empty() {
        true => DataError::file(path, error.to_string()),
        false => DataError::file(path, format!("{error}, after {}", refusal(&skipped))),
    })?;
    Ok((data, skipped))
}

fn fitted(source: &dyn Source, shape: ImageShape, index: usize) -> Result<Vec<u8>> {
    let failed = |problem| DataError::image(source.name(index), problem);
    match source.read(index, 0)? {
        Item::Numbers(_) => Err(failed("is a latent, expected a picture")),
        Item::Picture(picture) => {
            let image = Augment::default().apply(picture, shape, &mut Stream::new(0, "data.fit", 0));
            Ok(image.ok_or_else(|| failed("has no pixels"))?.into_planes())
        }
    }
}

fn refusal(skipped: &[Skipped]) -> String {
    let named: Vec<String> = skipped.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match skipped.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{} files cannot be decoded: {}{more}", skipped.len(), named.join("; "))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::{Luma, Rgb, RgbImage};

    use super::super::sources::ClassFolders;
    use super::*;

    const GREY: ImageShape = ImageShape { channels: 1, height: 4, width: 4 };
    const COLOUR: ImageShape = ImageShape { channels: 3, ..GREY };

    fn read(folder: &Path, shape: ImageShape, on_bad: OnBad) -> Result<(Dataset, Vec<Skipped>)> {
        collect(&ClassFolders::open(folder)?, shape, on_bad, folder)
    }

    /// Two classes with two images each: grey 4 x 4 and colour 12 x 8, the latter red with blue at the far left.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cat", "dog"] {
            let class = folder.path().join(name);
            fs::create_dir(&class).unwrap();
            fs::write(class.join(".hidden"), "no image").unwrap();
            image::GrayImage::from_pixel(4, 4, Luma([51])).save(class.join("a.png")).unwrap();
            let colour = |x, _| if x < 2 { Rgb([0, 0, 255]) } else { Rgb([255, 0, 0]) };
            RgbImage::from_fn(12, 8, colour).save(class.join("b.bmp")).unwrap();
        }
        folder
    }

    #[test]
    fn images_are_scaled_cropped_and_converted() {
        let folder = folder();
        let (data, skipped) = read(folder.path(), COLOUR, OnBad::Refuse).unwrap();
        assert_eq!((data.len(), data.labels(), skipped.len()), (4, &[0, 0, 1, 1][..], 0));
        assert!(data.images(&[0]).iter().all(|&value| (value + 0.6).abs() < 1e-6));
        // The middle 8 of 12 columns stay: the blue ones go.
        let red = data.images(&[1]);
        assert!(red[..16].iter().all(|&value| value > 0.8) && red[16..].iter().all(|&value| value < -0.8));
        let (grey, _) = read(folder.path(), GREY, OnBad::Refuse).unwrap();
        let red = grey.images(&[1])[5];
        assert!((-0.7..-0.4).contains(&red), "{red}");
    }

    #[test]
    fn bad_files_are_named_and_skipped_or_refused() {
        let folder = folder();
        fs::write(folder.path().join("dog/broken.png"), b"\x89PNG\r\n\x1a\nxx").unwrap();
        fs::write(folder.path().join("dog/readme.txt"), "hello").unwrap();
        fs::create_dir(folder.path().join("dog/more")).unwrap();
        let (data, skipped) = read(folder.path(), GREY, OnBad::Skip).unwrap();
        assert_eq!(data.len(), 4);
        let files: Vec<_> = skipped.iter().filter_map(|bad| bad.path.file_name()?.to_str()).collect();
        assert_eq!(files, ["broken.png", "more", "readme.txt"]);
        let error = read(folder.path(), GREY, OnBad::Refuse).unwrap_err().to_string();
        assert!(error.contains("3 files cannot be decoded: ") && error.contains("broken.png: "), "{error}");
    }

    #[test]
    fn a_class_without_images_is_an_error() {
        let folder = folder();
        fs::create_dir(folder.path().join("emu")).unwrap();
        let error = read(folder.path(), GREY, OnBad::Skip).unwrap_err().to_string();
        assert!(error.ends_with("emu: holds no image"), "{error}");
        fs::write(folder.path().join("emu/a.png"), "no").unwrap();
        let error = read(folder.path(), GREY, OnBad::Skip).unwrap_err().to_string();
        assert!(error.contains("class 2 (emu) has no image, after 1 files cannot be decoded: "), "{error}");
    }

    #[test]
    fn latents_are_no_images() {
        let shape = ImageShape { channels: 4, ..GREY };
        let error = read(folder().path(), shape, OnBad::Skip).unwrap_err().to_string();
        assert!(error.contains("the generator is set to 4"), "{error}");
    }
}
