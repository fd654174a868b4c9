//! `drifting serve`: arguments to settings, settings to a server.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use drifting_serve::engine::{EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_serve::{Limits, ModelSettings, ServeSettings, Server, is_model_name};
use tracing_subscriber::EnvFilter;

use crate::provider::ProviderArgs;
use crate::shipped::Shipped;

/// Serve an exported model over HTTP, with a page to try it on.
///
/// The model file is all that is needed: its manifest tells classes, guidance range and shapes. ONNX Runtime is taken
/// from ORT_DYLIB_PATH, else from the cache, else fetched once with pip (set DRIFTING_OFFLINE=1 to forbid that);
/// `drifting doctor` tells which one is in use. What a GPU needs, `drifting runtime install` fetches.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files that `drifting export` wrote, each with the name that it gets in addresses if not its own; the first one is
    /// asked where no name is given
    #[arg(value_name = "[NAME=]MODEL.onnx", required_unless_present = "shipped", value_parser = named_file)]
    files: Vec<ModelSettings>,

    /// A model that comes with the program in place of a file; its first use exports and verifies it
    #[arg(long = "model", value_name = "NAME", conflicts_with = "files")]
    shipped: Option<Shipped>,

    /// Address to listen on; 0.0.0.0 lets other machines in
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,

    /// Port to listen on; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 8000)]
    port: u16,

    /// What computes: auto (ONNX Runtime, else rten), onnxruntime (or fail), rten (pure Rust), tensorrt (feature)
    #[arg(long, value_name = "NAME", default_value_t)]
    engine: EngineChoice,

    /// With --engine tensorrt: the plan that `drifting export --target tensorrt` wrote [default: the one beside the
    /// model, else one from the cache, else one that is built now]
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,

    /// Threads that compute one batch [default: all processors, divided between the replicas]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// Engines that each model gets, which compute batches side by side; seldom of use on a CPU
    #[arg(long, value_name = "N", default_value = "1")]
    replicas: NonZeroUsize,

    /// Images computed at once; a smaller batch never waits to fill up
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_batch)]
    max_batch: usize,

    /// Use every batch size: more images a second under load, but a seed's image may then depend on its batch by one
    /// level in a pixel here and there
    #[arg(long)]
    fast_batches: bool,

    /// Images that one request may ask for
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_images)]
    max_images: usize,

    /// Images that may wait, over all requests; beyond them the answer is 429
    #[arg(long, value_name = "N", default_value_t = Limits::default().queue)]
    queue: usize,

    /// Seconds after which a request is given up
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    timeout: Duration,

    /// Seconds that running requests get once the server is told to stop
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    grace: Duration,

    /// Write the log as JSON lines
    #[arg(long)]
    log_json: bool,

    #[command(flatten)]
    provider: ProviderArgs,
}

impl Args {
    fn models(&self) -> anyhow::Result<Vec<ModelSettings>> {
        let shipped = self.shipped.map(|shipped| shipped.onnx(self.engine)).transpose()?;
        let models = self.files.iter().cloned().chain(shipped.map(ModelSettings::from));
        let models = models.map(|model| ModelSettings { plan: self.plan(&model.path), ..model }).collect::<Vec<_>>();
        anyhow::ensure!(!models.is_empty(), "needs a file that `drifting export` wrote, or --model NAME");
        anyhow::ensure!(self.plan.is_none() || models.len() == 1, "--plan belongs to one model, and there are several");
        Ok(models)
    }

    /// The plan that was named, else the one beside the model.
    fn plan(&self, model: &Path) -> Option<PathBuf> {
        let beside = || Some(model.with_extension("plan")).filter(|path| path.is_file());
        self.plan.clone().or_else(beside)
    }

    fn settings(&self, models: Vec<ModelSettings>) -> ServeSettings {
        let Self { max_batch, fast_batches, max_images, queue, timeout, .. } = *self;
        ServeSettings {
            address: SocketAddr::new(self.host, self.port),
            engine: EngineSettings {
                choice: self.engine,
                provider: self.provider.settings(),
                threads: self.threads,
                plan: None,
                max_batch,
                runtime: RuntimeSettings::from_env(),
            },
            limits: Limits { max_images, max_batch, exact: !fast_batches, queue, request_timeout: timeout },
            replicas: self.replicas,
            shutdown_deadline: self.grace,
            models,
        }
    }
}

/// `FILE` or `NAME=FILE`. What cannot be a name belongs to the file's: `./a=b.onnx` is one file.
fn named_file(text: &str) -> Result<ModelSettings, String> {
    match text.split_once('=') {
        Some((_, "")) => Err(format!("{text:?} has no file behind its '='")),
        Some((name, path)) if is_model_name(name) => {
            Ok(ModelSettings { name: Some(name.to_owned()), ..PathBuf::from(path).into() })
        }
        _ => Ok(PathBuf::from(text).into()),
    }
}

/// A number of seconds, as flags say it.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Serves until Ctrl-C or SIGTERM.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    log(args.log_json);
    serve(&args.settings(args.models()?))
}

/// Sets the log up: `RUST_LOG` chooses what is told, on standard error.
fn log(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colour = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // A log that was set up before stays.
    let _ = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
}

/// Serves `settings` until Ctrl-C or SIGTERM, and prints where.
pub(crate) fn serve(settings: &ServeSettings) -> anyhow::Result<()> {
    let server = Server::bind(settings, &|message| eprintln!("{message}"))?;
    for (model, (name, engine)) in settings.models.iter().zip(server.models()) {
        println!("Serving {} as {name} with {engine}", model.path.display());
        if let Some(reason) = &engine.fallback {
            println!("(rten stands in: {reason})");
        }
    }
    println!("Open http://{}/ (Ctrl-C stops)", server.local_addr());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let result = runtime.block_on(async {
        let stop = stop_signal()?;
        server.run(stop).await.map_err(anyhow::Error::from)
    });
    // Work that was given up must not hold the process.
    runtime.shutdown_background();
    result
}

/// Waits for Ctrl-C or, where there is one, SIGTERM. The handlers are in place when this function returns.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let handler = |kind| signal(kind).context("cannot listen to signals");
        let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async {
            // Without a handler the server runs until it is killed.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use drifting_serve::engine::{Precision, Provider, ProviderSettings};

    use super::*;
    use crate::flags;

    fn settings(flags: &[&str]) -> Result<ServeSettings, clap::Error> {
        let args = flags::parsed::<Args>(&[&["serve", "model.onnx"], flags].concat())?;
        Ok(args.settings(args.files.clone()))
    }

    #[test]
    fn flags_become_settings() {
        let usual = settings(&[]).unwrap();
        assert_eq!((usual.address.to_string().as_str(), usual.limits), ("127.0.0.1:8000", Limits::default()));
        let flags = ["--host", "::1", "--port", "0", "--engine", "rten", "--threads", "2", "--timeout", "0.5"];
        let chosen = settings(&flags).unwrap();
        assert_eq!((chosen.address.to_string().as_str(), chosen.engine.choice), ("[::1]:0", EngineChoice::Rten));
        assert_eq!(chosen.limits.request_timeout, Duration::from_millis(500));
        assert_eq!(chosen.engine.threads.map(NonZeroUsize::get), Some(2));
        let gpu =
            ["--provider", "cuda", "--device", "1", "--precision", "tf32", "--gpu-memory", "2048", "--cuda-graphs"];
        let option = ["--provider-option", "prefer_nhwc=1", "--max-batch", "16"];
        let gpu = settings(&[&gpu[..], &option].concat()).unwrap().engine;
        let expected = ProviderSettings {
            provider: Provider::Cuda,
            device: 1,
            precision: Precision::Tf32,
            memory_limit: Some(2048),
            cuda_graphs: true,
            options: vec![("prefer_nhwc".to_owned(), "1".to_owned())],
        };
        assert_eq!((gpu.provider, gpu.max_batch, usual.engine.provider), (expected, 16, ProviderSettings::default()));
    }

    #[test]
    fn files_may_have_names() {
        let models = settings(&["base=dir/b.onnx", "./a=b.onnx"]).unwrap().models;
        let found: Vec<_> = models.iter().map(|model| (model.name.as_deref(), model.path.to_str().unwrap())).collect();
        assert_eq!(found, [(None, "model.onnx"), (Some("base"), "dir/b.onnx"), (None, "./a=b.onnx")]);
        assert!(settings(&["base="]).unwrap_err().to_string().contains("no file"));
    }

    #[test]
    fn wrong_flags_say_what_is_right() {
        let refused = |flags: &[&str]| settings(flags).unwrap_err().to_string();
        assert!(refused(&["--engine", "ort"]).contains("auto, onnxruntime, rten"));
        assert!(refused(&["--provider", "gpu"]).contains("tensorrt-rtx"));
        assert!(refused(&["--precision", "fp16"]).contains("bf16"));
        assert!(refused(&["--provider-option", "key"]).contains("KEY=VALUE"));
        assert!(refused(&["--gpu-memory", "0"]).contains("--gpu-memory"));
        assert!(refused(&["--timeout=-1"]).contains("--timeout"));
        assert!(refused(&["--threads", "0"]).contains("--threads"));
        assert!(refused(&["--model", "fashion"]).contains("cannot be used with"));
    }
}
