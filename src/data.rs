//! `drifting data`: looking at data and preparing them.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use drifting_models::weights;
use drifting_spec::ImageShape;
use drifting_train::config::LoaderSettings;
use drifting_train::data::sources::Source;
use drifting_train::data::{
    Augment, Crop, DataSource, Embedded, Images, Inspection, Kind, LatentSettings, LatentWriter, OnBad, PathSource,
    Report, Sheet, contact_sheet, inspect, open_autoencoder,
};
use drifting_train::run::encode_png;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

/// Damaged files that are named.
const NAMED: usize = 20;
/// Classes that are listed.
const LISTED: usize = 50;
/// Largest side of an image on a contact sheet, and width that the sheet is enlarged to.
const TILE: usize = 96;
const SHEET_WIDTH: usize = 1200;

/// Look at a data set, or encode it into latents.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Count the images of each class, their sizes and statistics, and list damaged files.
    Inspect(InspectArgs),
    /// Encode every image with an autoencoder and write the latents as shards.
    Latents(LatentArgs),
}

/// Where images are.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// A file or folder of images, or fashion-mnist for those that come with the program.
    pub(crate) source: PathBuf,
    /// What is in it.
    #[arg(long, value_enum, default_value_t = KindArg::Auto)]
    kind: KindArg,
    /// Only files whose names begin so, of several shards, tar or Parquet files.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    files: String,
}

/// Which of the images there.
#[derive(Debug, clap::Args)]
struct SourceArgs {
    #[command(flatten)]
    place: Place,
    /// The test images that lie beside the training images of idx and CIFAR-10 folders, and of fashion-mnist.
    #[arg(long)]
    test: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    Auto,
    Idx,
    Cifar10,
    Folder,
    Shards,
    Webdataset,
    Parquet,
}

#[derive(Debug, clap::Args)]
struct InspectArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Write a contact sheet of the classes.
    #[arg(long, value_name = "PNG")]
    sheet: Option<PathBuf>,
    /// Images of each class on the contact sheet.
    #[arg(long, value_name = "N", default_value_t = 10)]
    columns: usize,
    /// Classes on the contact sheet.
    #[arg(long, value_name = "N", default_value_t = 20)]
    rows: usize,
    /// Folder of the autoencoder that makes the pictures of the contact sheet where the data are latents.
    #[arg(long, value_name = "FOLDER")]
    vae: Option<PathBuf>,
    /// Read only so many images, spread evenly.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, clap::Args)]
struct LatentArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Folder of the autoencoder: config.json and diffusion_pytorch_model.safetensors (AutoencoderKL), or
    /// taef2_enc.safetensors and taef2_dec.safetensors.
    #[arg(long, alias = "taef2", value_name = "FOLDER")]
    vae: PathBuf,
    /// Folder to write; the same command goes on after a kill.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Side of the images that are encoded: the centre crop of ADM.
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    size: usize,
    /// Images that are encoded at once.
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Images of a shard.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    shard: usize,
    /// Leave the mirror images out.
    #[arg(long)]
    no_mirror: bool,
    /// Store halves: half the size.
    #[arg(long)]
    f16: bool,
    /// Encode another image of the class in the place of a damaged one, instead of stopping.
    #[arg(long)]
    skip_damaged: bool,
    /// Seed of the posterior's noise.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Encode one batch, say how long all of them would take, and stop.
    #[arg(long)]
    dry_run: bool,
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Inspect(args) => inspect_source(args),
        Command::Latents(args) => latents(args),
    }
}

impl SourceArgs {
    fn open(&self, on_bad: OnBad, shape: ImageShape, augment: &Augment) -> Result<(Arc<dyn Source>, Report)> {
        let data = self.place.data(on_bad);
        let (source, report) = data.open_source(shape, augment)?;
        if !self.test {
            return Ok((source, report));
        }
        let problem = "has no test images beside the training images: --test goes with idx and CIFAR-10 folders";
        let test = data.open_test_source(shape, augment, source.classes())?;
        test.with_context(|| format!("{} {problem}", self.place.source.display()))
    }
}

impl Place {
    /// Whether the images are those that come with the program.
    fn is_embedded(&self) -> bool {
        self.source == Path::new(Embedded::FashionMnist.name()) && !self.source.exists()
    }

    pub(crate) fn data(&self, on_bad: OnBad) -> DataSource {
        if self.is_embedded() {
            return DataSource::Embedded(Embedded::FashionMnist);
        }
        let kind = match self.kind {
            KindArg::Auto => Kind::Auto,
            KindArg::Idx => Kind::Idx,
            KindArg::Cifar10 => Kind::Cifar10,
            KindArg::Folder => Kind::Folder,
            KindArg::Shards => Kind::Shards,
            KindArg::Webdataset => Kind::Webdataset,
            KindArg::Parquet => Kind::Parquet,
        };
        let (path, files) = (self.source.clone(), self.files.clone());
        DataSource::Path(PathSource { path, kind, files, on_bad, lazy: Some(true), ..PathSource::default() })
    }

    /// The value of the key `data` in a configuration that leaves damaged images out if `skip` says so.
    pub(crate) fn setting(&self, skip: bool) -> Result<String> {
        if self.is_embedded() {
            return Ok(format!("{{ embedded = \"{}\" }}", Embedded::FashionMnist.name()));
        }
        let text = |text: &str| toml::Value::from(text).to_string();
        let path = self.source.to_str().with_context(|| format!("{} is no text", self.source.display()))?;
        let mut setting = format!("{{ path = {}", text(path));
        if let Some(kind) = self.kind.to_possible_value().filter(|_| !matches!(self.kind, KindArg::Auto)) {
            setting.push_str(&format!(", kind = \"{}\"", kind.get_name()));
        }
        if !self.files.is_empty() {
            setting.push_str(&format!(", files = {}", text(&self.files)));
        }
        if skip {
            setting.push_str(", on_bad = \"skip\"");
        }
        Ok(setting + " }")
    }
}

fn inspect_source(args: &InspectArgs) -> Result<()> {
    // A crop leaves the shape of what is read open.
    let any = ImageShape { channels: 3, height: 1, width: 1 };
    let cropped = Augment { crop: Crop::Adm, ..Augment::default() };
    let (source, report) = args.source.open(OnBad::Skip, any, &cropped)?;
    let bar = bar(args.limit.unwrap_or(source.len()).min(source.len()) as u64, "images")?;
    let found = inspect(source.as_ref(), args.limit, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    println!("{report}");
    print!("{}", describe(source.as_ref(), &found));
    if let Some(path) = &args.sheet {
        let decoder = args.vae.as_deref().map(open_autoencoder).transpose()?;
        let sheet = Sheet { rows: args.rows, columns: args.columns.max(1), side: TILE, decoder: decoder.as_deref() };
        let sheet = contact_sheet(source.as_ref(), &sheet)?;
        let (shape, bytes) = sheet.context("latents are no pictures: --vae names the autoencoder that decodes them")?;
        let png = encode_png(shape, bytes, SHEET_WIDTH).context("the contact sheet is too large for a PNG")?;
        weights::write_bytes(path, &png)?;
        println!("wrote {}", path.display());
    }
    match found.damaged.len() {
        0 => Ok(()),
        damaged => bail!("{damaged} images cannot be read"),
    }
}

fn describe(source: &dyn Source, found: &Inspection) -> String {
    let mut text = String::new();
    for (name, count) in source.classes().iter().zip(&found.per_class).take(LISTED) {
        text.push_str(&format!("{count:>9}  {name}\n"));
    }
    if source.classes().len() > LISTED {
        let range = (found.per_class.iter().min(), found.per_class.iter().max());
        let more = source.classes().len() - LISTED;
        text.push_str(&format!("           and {more} classes more, of {:?} to {:?} images\n", range.0, range.1));
    }
    text.push_str(&format!("read {} of {}", found.read, source.len()));
    let what = if found.latents { "latents" } else { "pictures" };
    let mut shapes: Vec<_> = found.shapes.iter().collect();
    shapes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let named = shapes.iter().take(5).map(|([c, h, w], count)| format!("{count} of {c} x {h} x {w}"));
    let named: Vec<String> = named.collect();
    let more = if shapes.len() > 5 { format!(", and {} shapes more", shapes.len() - 5) } else { String::new() };
    text.push_str(&format!(": {what}, {}{more}\n", named.join(", ")));
    for (channels, moments) in &found.channels {
        let list = |value: &dyn Fn(usize) -> f64| {
            (0..*channels).map(|channel| format!("{:.4}", value(channel))).collect::<Vec<_>>().join(" ")
        };
        let range = if found.latents { "numbers" } else { "0 to 1" };
        text.push_str(&format!(
            "mean of {channels} channels ({range})  {}\n",
            list(&|channel| moments[channel].mean())
        ));
        text.push_str(&format!("std  of {channels} channels ({range})  {}\n", list(&|channel| moments[channel].std())));
    }
    found.damaged.iter().take(NAMED).for_each(|damaged| text.push_str(&format!("damaged  {damaged}\n")));
    if found.damaged.len() > NAMED {
        text.push_str(&format!("damaged  and {} more\n", found.damaged.len() - NAMED));
    }
    text.push_str(&format!("sha256   {}\n", source.sha256()));
    text
}

fn latents(args: &LatentArgs) -> Result<()> {
    let on_bad = if args.skip_damaged { OnBad::Skip } else { OnBad::Refuse };
    let shape = ImageShape { channels: 3, height: args.size, width: args.size };
    let augment = Augment { crop: Crop::Adm, ..Augment::default() };
    let autoencoder = open_autoencoder(&args.vae)?;
    let (source, report) = args.source.open(on_bad, shape, &augment)?;
    println!("{report}");
    let images = Arc::new(Images::new(source, shape, augment, args.seed)?.on_bad(on_bad));
    let settings = LatentSettings {
        batch: args.batch,
        shard: args.shard,
        mirrored: !args.no_mirror,
        half: args.f16,
        seed: args.seed,
        loader: LoaderSettings::default(),
    };
    let transform = format!("ADM centre crop to {0} x {0}, pixels from -1 to 1", args.size);
    let writer = LatentWriter::new(images, autoencoder.as_ref(), settings, &transform)?;
    let plan = writer.plan();
    let [channels, height, width] = plan.shape;
    let mirrored = if plan.mirrored { " and their mirror images" } else { "" };
    println!(
        "{} images{mirrored} -> {channels} x {height} x {width} {} with {}: {} in {} shards",
        plan.images,
        plan.dtype,
        plan.autoencoder,
        HumanBytes(writer.bytes() as u64),
        plan.shards.len()
    );
    if args.dry_run {
        let started = Instant::now();
        let tried = writer.try_batch()?;
        let each = started.elapsed().as_secs_f64() / tried as f64;
        let all = Duration::from_secs_f64(each * plan.images as f64);
        println!("{:.1} images/s: about {}; nothing was written", 1.0 / each, HumanDuration(all));
        return Ok(());
    }
    let bar = bar(plan.images as u64, "images")?;
    let manifest = writer.write(&args.out, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    if manifest.replaced > 0 {
        println!("{} damaged images were replaced by others of their class", manifest.replaced);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "wrote {}: {} images in {} shards", args.out.display(), manifest.images, manifest.shards.len())?;
    Ok(())
}

fn bar(total: u64, what: &str) -> Result<ProgressBar> {
    let bar = if stderr().is_terminal() { ProgressBar::new(total) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template(&format!("{{bar:30}} {{pos}}/{{len}} {what}, {{per_sec}}, {{eta}} left"))?;
    Ok(bar.with_style(style))
}
