use std::path::PathBuf;

use super::super::sources::{Item, Source, TensorShards};
use super::super::{Augment, Crop, DataSource, Dataset};
use super::*;

/// 24 pictures of 3 x 20 x 20 of two classes.
fn images() -> Arc<Images> {
    let shape = ImageShape { channels: 3, height: 20, width: 20 };
    let pixels = Stream::new(3, "test.pixels", 0).normals(24 * shape.len());
    let pixels = pixels.into_iter().map(|value| (value * 60.0 + 128.0) as u8).collect();
    let labels = (0..24).map(|image| image % 2).collect();
    let data = Dataset::new(shape, pixels, labels, vec!["even".into(), "odd".into()]).unwrap();
    let shape = ImageShape { height: 16, width: 16, ..shape };
    let augment = Augment { crop: Crop::Adm, ..Augment::default() };
    Arc::new(Images::new(Arc::new(data), shape, augment, 1).unwrap())
}

/// The tiny autoencoder of the golden data.
fn vae() -> Box<dyn Autoencoder> {
    let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let golden = std::env::var_os("DRIFTING_GOLDEN").map_or_else(own, PathBuf::from);
    open_autoencoder(&golden.join("vae")).unwrap()
}

fn settings() -> LatentSettings {
    let loader = LoaderSettings { workers: Some(2), ahead: 2 };
    LatentSettings { batch: 4, shard: 10, loader, ..LatentSettings::default() }
}

fn read(source: &TensorShards, index: usize, version: usize) -> Vec<f32> {
    match source.read(index, version).unwrap() {
        Item::Numbers(numbers) => numbers,
        Item::Picture(_) => panic!("a picture"),
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())).collect()
}

#[test]
fn shards_hold_the_latents_of_the_images_and_of_their_mirror_images() {
    let (folder, vae, images) = (tempfile::tempdir().unwrap(), vae(), images());
    let writer = LatentWriter::new(Arc::clone(&images), vae.as_ref(), settings(), "a crop").unwrap();
    let mut heard = Vec::new();
    let manifest = writer.write(folder.path(), |done| heard.push(done)).unwrap();
    assert_eq!((manifest.images, manifest.shape, manifest.per_class.as_slice()), (24, [4, 8, 8], &[12, 12][..]));
    assert_eq!(manifest.shards.iter().map(|shard| shard.images).collect::<Vec<_>>(), [10, 10, 4]);
    assert!(heard.is_sorted() && heard.last() == Some(&24));
    assert!(!folder.path().join(PLAN).exists());

    let source = TensorShards::open(folder.path(), "").unwrap();
    assert_eq!((source.len(), source.versions(), source.label(11)), (24, 2, 1));
    assert_eq!(source.classes(), ["even", "odd"]);
    for index in [0, 9, 10, 23] {
        let (pixels, _) = images.read_all(&[Draw { index, number: 0 }]).unwrap();
        let mirrored: Vec<f32> = pixels.chunks(16).flat_map(|row| row.iter().rev().copied()).collect();
        for (version, pixels) in [pixels, mirrored].into_iter().enumerate() {
            let image = Tensor::from_vec(pixels, (1, 3, 16, 16), &Device::Cpu).unwrap();
            let mut stream = [Stream::new(42, "latents.posterior", (2 * index + version) as u64)];
            let expected = vae.sample(&image, &mut stream).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let found = read(&source, index, version);
            let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < 1e-5 && found.iter().any(|value| value.abs() > 0.01), "{index} {version}: {largest}");
        }
    }
}

#[test]
fn a_stopped_run_goes_on_and_ends_with_the_same_bytes() {
    let (straight, stopped, vae) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), vae());
    let write =
        |folder: &Path| LatentWriter::new(images(), vae.as_ref(), settings(), "a crop").unwrap().write(folder, |_| {});
    write(straight.path()).unwrap();
    let expected = files(straight.path());

    // As a kill leaves it: one shard whole, one cut off, one half written beside its place, no manifest.
    write(stopped.path()).unwrap();
    let path = |name: &str| stopped.path().join(name);
    let plan =
        serde_json::to_vec_pretty(LatentWriter::new(images(), vae.as_ref(), settings(), "a crop").unwrap().plan());
    fs::write(path(PLAN), plan.unwrap()).unwrap();
    fs::remove_file(path(MANIFEST)).unwrap();
    let cut = expected["shard-00001.safetensors"][..500].to_vec();
    fs::write(path("shard-00001.safetensors"), cut).unwrap();
    fs::rename(path("shard-00002.safetensors"), path("shard-00002.safetensors.partial")).unwrap();
    let unfinished = TensorShards::open(stopped.path(), "").unwrap_err().to_string();
    assert!(unfinished.contains("not finished: run drifting data latents again"), "{unfinished}");
    let kept = fs::metadata(path("shard-00000.safetensors")).unwrap().modified().unwrap();
    write(stopped.path()).unwrap();
    assert_eq!(files(stopped.path()), expected);
    assert_eq!(fs::metadata(path("shard-00000.safetensors")).unwrap().modified().unwrap(), kept);
}

#[test]
fn a_folder_of_other_latents_is_refused() {
    let (folder, vae) = (tempfile::tempdir().unwrap(), vae());
    let write =
        |settings| LatentWriter::new(images(), vae.as_ref(), settings, "a crop").unwrap().write(folder.path(), |_| {});
    write(settings()).unwrap();
    let message = |settings| write(settings).unwrap_err().to_string();
    let found = message(LatentSettings { seed: 7, ..settings() });
    assert!(found.ends_with("was written with seed 42, now it is 7: choose another folder"), "{found}");
    assert!(message(LatentSettings { shard: 5, ..settings() }).contains("other shards (--shard)"));
    assert!(message(LatentSettings { half: true, ..settings() }).contains("dtype \"f32\", now it is \"f16\""));
    assert!(message(LatentSettings { mirrored: false, ..settings() }).contains("mirrored true, now it is false"));
}

#[test]
fn halves_and_unmirrored_latents_are_read_again() {
    let (folder, vae) = (tempfile::tempdir().unwrap(), vae());
    let halves = LatentSettings { half: true, mirrored: false, ..settings() };
    let writer = LatentWriter::new(images(), vae.as_ref(), halves, "a crop").unwrap();
    assert_eq!((writer.bytes(), writer.try_batch().unwrap()), (24 * 256 * 2, 4));
    writer.write(folder.path(), |_| {}).unwrap();
    let shape = ImageShape { channels: 4, height: 8, width: 8 };
    let data = DataSource::path(folder.path());
    let (source, report) = data.open_source(shape, &Augment::default()).unwrap();
    assert_eq!((report.images, source.versions()), (24, 1));
    assert!(Images::new(Arc::clone(&source), shape, Augment::default(), 1).is_ok());
    let refused = |shape, augment| Images::new(Arc::clone(&source), shape, augment, 1).unwrap_err().to_string();
    let flip = Augment { flip: true, ..Augment::default() };
    assert_eq!(refused(shape, flip), "augment.flip: these latents were stored without their mirror images");
    let crop = Augment { crop: Crop::Random, ..Augment::default() };
    assert!(refused(shape, crop).starts_with("augment.crop: latents cannot be cropped"));
    let other = ImageShape { height: 4, ..shape };
    assert!(
        refused(other, Augment::default()).contains("the images are 4 x 8 x 8, but the network is set to 4 x 4 x 8")
    );
    let error = data.open(ImageShape { channels: 3, ..shape }).unwrap_err().to_string();
    assert!(
        error.contains("24 files cannot be decoded") && error.contains("is a latent, expected a picture"),
        "{error}"
    );
}
