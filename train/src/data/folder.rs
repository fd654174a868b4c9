//! A folder of class folders of images.

use std::fs;
use std::path::{Path, PathBuf};

use drifting_spec::{ImageShape, Stream};
use rayon::prelude::*;

use super::{Augment, DataError, Dataset, OnBad, Picture, Result, Skipped};

/// Bad files that an error message names.
const NAMED: usize = 5;

/// The class folders in `folder`, sorted by name. Hidden folders do not count.
pub(super) fn class_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(list(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// Reads the images of the class folders `classes` in `folder`; the file names decide their order.
pub(super) fn read(
    folder: &Path,
    classes: Vec<String>,
    shape: ImageShape,
    on_bad: OnBad,
) -> Result<(Dataset, Vec<Skipped>)> {
    if !matches!(shape.channels, 1 | 3) {
        let problem = format!("images have 1 or 3 channels, but the generator is set to {}", shape.channels);
        return Err(DataError::file(folder, problem));
    }
    let mut files = Vec::new();
    for (label, name) in classes.iter().enumerate() {
        let class = folder.join(name);
        let found = list(&class)?;
        if found.is_empty() {
            return Err(DataError::file(&class, "holds no image"));
        }
        files.extend(found.into_iter().map(|path| (path, label)));
    }
    let decoded: Vec<_> = files.par_iter().map(|(path, _)| decode(path, shape)).collect();

    let (mut pixels, mut labels, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for ((path, label), image) in files.into_iter().zip(decoded) {
        match image {
            Ok(image) => {
                pixels.extend(image);
                labels.push(label);
            }
            Err(problem) => skipped.push(Skipped { path, problem }),
        }
    }
    if on_bad == OnBad::Refuse && !skipped.is_empty() {
        return Err(DataError::file(folder, refusal(&skipped)));
    }
    let data = Dataset::new(shape, pixels, labels, classes);
    let data = data.map_err(|error| match skipped.is_empty() {
        true => DataError::file(folder, error.to_string()),
        false => DataError::file(folder, format!("{error}, after {}", refusal(&skipped))),
    })?;
    Ok((data, skipped))
}

fn refusal(skipped: &[Skipped]) -> String {
    let named: Vec<String> = skipped.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match skipped.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{} files cannot be decoded: {}{more}", skipped.len(), named.join("; "))
}

/// The entries of a folder in the order of their names, without hidden ones.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| DataError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The image in `path` as `[channels, height, width]` bytes, or what is wrong with it.
fn decode(path: &Path, shape: ImageShape) -> std::result::Result<Vec<u8>, String> {
    if path.is_dir() {
        return Err("is a folder, expected an image".into());
    }
    let picture = Picture::decode(&fs::read(path).map_err(|error| error.to_string())?)?;
    let fixed = Augment::default();
    let image = fixed.apply(picture, shape, &mut Stream::new(0, "data.fit", 0)).ok_or("has no pixels")?;
    Ok(image.into_planes())
}

#[cfg(test)]
mod tests {
    use image::{Luma, Rgb, RgbImage};

    use super::*;

    const GREY: ImageShape = ImageShape { channels: 1, height: 4, width: 4 };
    const COLOUR: ImageShape = ImageShape { channels: 3, ..GREY };

    fn names() -> Vec<String> {
        vec!["cat".into(), "dog".into()]
    }

    /// Two classes with two images each: grey 4 x 4 and colour 12 x 8, the latter red with blue at the far left.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names() {
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
        let (data, skipped) = read(folder.path(), names(), COLOUR, OnBad::Refuse).unwrap();
        assert_eq!((data.len(), data.labels(), skipped.len()), (4, &[0, 0, 1, 1][..], 0));
        assert!(data.images(&[0]).iter().all(|&value| (value + 0.6).abs() < 1e-6));
        // The middle 8 of 12 columns stay: the blue ones go.
        let red = data.images(&[1]);
        assert!(red[..16].iter().all(|&value| value > 0.8) && red[16..].iter().all(|&value| value < -0.8));
        let (grey, _) = read(folder.path(), names(), GREY, OnBad::Refuse).unwrap();
        let red = grey.images(&[1])[5];
        assert!((-0.7..-0.4).contains(&red), "{red}");
    }

    #[test]
    fn bad_files_are_named_and_skipped_or_refused() {
        let folder = folder();
        fs::write(folder.path().join("dog/broken.png"), b"\x89PNG\r\n\x1a\nxx").unwrap();
        fs::write(folder.path().join("dog/readme.txt"), "hello").unwrap();
        fs::create_dir(folder.path().join("dog/more")).unwrap();
        let (data, skipped) = read(folder.path(), names(), GREY, OnBad::Skip).unwrap();
        assert_eq!(data.len(), 4);
        let files: Vec<_> = skipped.iter().filter_map(|bad| bad.path.file_name()?.to_str()).collect();
        assert_eq!(files, ["broken.png", "more", "readme.txt"]);
        let error = read(folder.path(), names(), GREY, OnBad::Refuse).unwrap_err().to_string();
        assert!(error.contains("3 files cannot be decoded: ") && error.contains("broken.png: "), "{error}");
    }

    #[test]
    fn a_class_without_images_is_an_error() {
        let folder = folder();
        let more = || [names(), vec!["emu".into()]].concat();
        fs::create_dir(folder.path().join("emu")).unwrap();
        let error = read(folder.path(), more(), GREY, OnBad::Skip).unwrap_err().to_string();
        assert!(error.ends_with("emu: holds no image"), "{error}");
        fs::write(folder.path().join("emu/a.png"), "no").unwrap();
        let error = read(folder.path(), more(), GREY, OnBad::Skip).unwrap_err().to_string();
        assert!(error.contains("class 2 (emu) has no image, after 1 files cannot be decoded: "), "{error}");
    }

    #[test]
    fn latents_are_no_images() {
        let shape = ImageShape { channels: 4, ..GREY };
        let error = read(folder().path(), names(), shape, OnBad::Skip).unwrap_err().to_string();
        assert!(error.contains("the generator is set to 4"), "{error}");
    }
}
