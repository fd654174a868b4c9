//! `drifting new`: configurations for somebody's own images.

mod draft;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use drifting_models::weights;
use drifting_spec::ImageShape;
use drifting_train::config::ExperimentConfig;
use drifting_train::data::{Augment, Crop, OnBad, inspect};

use self::draft::{Draft, Picture};
use crate::data::Place;

/// Images that are looked at, to learn their sizes.
const LOOKED_AT: usize = 500;
/// Sides that the chosen network is meant for, in pixels.
const SIDES: std::ops::RangeInclusive<usize> = 8..=128;

/// Write a configuration for your own images.
///
/// Looks at the images and chooses a network, feature keys and a number of steps that a processor of two cores can take in minutes.
/// Every choice is a line of the file, to be changed there; `drifting train FILE` trains it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// The file to write [default: the name of the source, with .toml].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Side of the pictures to generate, a multiple of 4 [default: that of the images if they are equal squares, at most 64, else 32].
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Write the configuration of a feature encoder too, FILE-encoder.toml, and let samples drift in its features: an hour or more
    /// in place of minutes, and better pictures.
    #[arg(long)]
    encoder: bool,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

/// Looks, writes, and says how to go on.
pub(crate) fn run(args: &Args) -> Result<()> {
    let source = args.place.source.display();
    let draft = draft(args)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.toml", draft.name)));
    let encoder = out.with_file_name(format!("{}.toml", draft.encoder_name()));
    let generator = draft.generator(&source.to_string(), &out, args.encoder.then_some(&*encoder));
    let files = [(&encoder, args.encoder.then(|| draft.encoder(&encoder))), (&out, Some(generator))];
    let files: Vec<(&PathBuf, String)> = files.into_iter().filter_map(|(path, text)| Some((path, text?))).collect();
    for (path, text) in &files {
        ensure!(args.force || !path.exists(), "{} is there already: --force replaces it", path.display());
        ExperimentConfig::parse(text, &path.display().to_string(), &[])?;
    }
    for (path, text) in &files {
        weights::write_bytes(path, text.as_bytes())?;
        println!("wrote {}", path.display());
    }
    println!("{draft}");
    println!("Now:");
    for (path, _) in &files {
        println!("  drifting train {}", path.display());
    }
    let name = &draft.name;
    println!("  drifting sample runs/{name}");
    println!("  drifting export runs/{name} --out {name}.onnx && drifting serve {name}.onnx");
    Ok(())
}

/// What the images ask for.
fn draft(args: &Args) -> Result<Draft> {
    let source_name = args.place.source.display();
    // A crop leaves the shape of what is read open.
    let any = ImageShape { channels: 3, height: 1, width: 1 };
    let cropped = Augment { crop: Crop::Adm, ..Augment::default() };
    let data = args.place.data(OnBad::Skip);
    let (source, _) = data.open_source(any, &cropped)?;
    let found = inspect(source.as_ref(), Some(LOOKED_AT), |_| {})?;
    if found.latents {
        bail!("{source_name} holds latents: configs/cifar10-taef2.toml is a pattern for them");
    }
    ensure!(found.read > 0, "{source_name}: none of {} images can be read", found.damaged.len());
    let channels = if found.shapes.keys().all(|[channels, ..]| *channels == 1) { 1 } else { 3 };
    let one = match found.shapes.keys().collect::<Vec<_>>()[..] {
        [[_, height, width]] if height == width => Some(*height),
        _ => None,
    };
    let own = one.filter(|side| side.is_multiple_of(4) && (*SIDES.start()..=64).contains(side));
    let side = args.size.or(own).unwrap_or(32);
    if !side.is_multiple_of(4) || !SIDES.contains(&side) {
        bail!("--size {side}: wants a multiple of 4 from {} to {}", SIDES.start(), SIDES.end());
    }
    // Sources of one size are not scaled unless a crop says how.
    let crop = source.shape().is_some() && one != Some(side);
    Ok(Draft {
        name: name(&args.place.source)?,
        data: args.place.setting(!found.damaged.is_empty())?,
        classes: source.classes().to_vec(),
        images: source.len(),
        fewest: found.per_class.iter().copied().min().unwrap_or_default(),
        picture: Picture { channels, side, crop },
    })
}

/// The name of a model: letters, digits, dashes.
fn name(source: &Path) -> Result<String> {
    let full = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let stem = full.file_stem().and_then(|stem| stem.to_str()).context("the name of the source is no text")?;
    let kept = stem.chars().map(|letter| if letter.is_alphanumeric() || letter == '_' { letter } else { '-' });
    let name = kept.collect::<String>().trim_matches('-').to_lowercase();
    Ok(if name.is_empty() { "images".to_owned() } else { name })
}
