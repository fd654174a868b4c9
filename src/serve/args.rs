//! The flags of `drifting serve`, and what they set.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use drifting_serve::engine::{EngineChoice, EngineSettings};
use drifting_serve::runtime::RuntimeSettings;
use drifting_serve::{
    ConnectionLimits, GateSettings, Limits, ModelSettings, Origins, ServeSettings, TlsSettings, is_model_name,
};

use crate::provider::ProviderArgs;
use crate::shipped::Shipped;

/// Serve an exported model over HTTP, with a page to try it on.
///
/// The model file is all that is needed: its manifest tells classes, guidance range and shapes. ONNX Runtime is taken
/// from ORT_DYLIB_PATH, else from the cache, else fetched once with pip (set DRIFTING_OFFLINE=1 to forbid that);
/// `drifting doctor` tells which one is in use. What a GPU needs, `drifting runtime install` fetches.
///
/// Each setting can also be given by the environment variable behind it, or in a file (--config). A program that was
/// built with the feature `otlp` sends traces to the collector that OTEL_EXPORTER_OTLP_ENDPOINT names.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files that `drifting export` wrote, each with the name that it gets in addresses if not its own; the first one is
    /// asked where no name is given
    #[arg(
        value_name = "[NAME=]MODEL.onnx",
        required_unless_present_any = ["shipped", "config", "print_settings"],
        value_parser = named_file
    )]
    files: Vec<ModelSettings>,

    /// A model that comes with the program in place of a file; its first use exports and verifies it
    #[arg(long = "model", value_name = "NAME", conflicts_with = "files")]
    shipped: Option<Shipped>,

    /// A file of settings (TOML): the keys are these flags with _ for -; models is a list of tables with name, file and
    /// plan. What is typed, and then what the environment says, goes before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print every setting, with where it comes from, in place of serving
    #[arg(long, visible_alias = "dry-run")]
    pub(super) print_settings: bool,

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

    /// Bytes of a request's body; a longer one is answered 413
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().max_body)]
    max_body: usize,

    /// Seconds after which a request is given up
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    timeout: Duration,

    /// Seconds that running requests get once the server is told to stop
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    grace: Duration,

    /// Connections that are open at a time; more wait until one is closed
    #[arg(long, value_name = "N", default_value_t = ConnectionLimits::default().max)]
    max_connections: usize,

    /// Seconds that a client may take for a request's head, for a TLS handshake, or before it takes more of an answer
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    client_timeout: Duration,

    /// Seconds that a connection may stay open without a request
    #[arg(long, value_name = "SECONDS", default_value = "75", value_parser = seconds)]
    idle_timeout: Duration,

    /// API keys, one a line (KEY or NAME: KEY, # begins a comment): every request but /healthz and /readyz needs one
    #[arg(long, value_name = "FILE")]
    api_keys: Option<PathBuf>,

    /// A certificate (PEM) to serve https with, then those that lead to one that clients know
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate (PEM, without a password)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// A server whose pages may use this one from a browser, as https://HOST; * lets all; can be given several times
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',', value_parser = origin)]
    cors_origin: Vec<String>,

    /// Write the log as JSON lines
    #[arg(long)]
    pub(super) log_json: bool,

    #[command(flatten)]
    provider: ProviderArgs,
}

impl Args {
    /// The files that were typed, else those of the file of settings, unless a model that comes with the program is asked for.
    pub(super) fn named<'a>(&'a self, file: &'a [ModelSettings]) -> &'a [ModelSettings] {
        if self.files.is_empty() && self.shipped.is_none() { file } else { &self.files }
    }

    /// All models, with their plans.
    pub(super) fn models(&self, file: &[ModelSettings]) -> Result<Vec<ModelSettings>> {
        let shipped = self.shipped.map(|shipped| shipped.onnx(self.engine)).transpose()?.map(ModelSettings::from);
        let models = self.named(file).iter().cloned().chain(shipped);
        let plan = |model: &ModelSettings| model.plan.clone().or_else(|| self.plan(&model.path));
        let models: Vec<_> = models.map(|model| ModelSettings { plan: plan(&model), ..model }).collect();
        ensure!(self.plan.is_none() || models.len() < 2, "--plan belongs to one model, and there are several");
        Ok(models)
    }

    /// The plan that was named, else the one beside the model.
    fn plan(&self, model: &Path) -> Option<PathBuf> {
        let beside = || Some(model.with_extension("plan")).filter(|path| path.is_file());
        self.plan.clone().or_else(beside)
    }

    /// The settings of a server of these models.
    pub(super) fn settings(&self, models: Vec<ModelSettings>) -> Result<ServeSettings> {
        ensure!(
            !models.is_empty(),
            "needs a file that `drifting export` wrote, --model NAME, or [[models]] in a --config"
        );
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsSettings { certificate: certificate.clone(), key: key.clone() }),
            (None, None) => None,
            _ => bail!("--tls-cert and --tls-key belong together: a certificate, and its private key"),
        };
        let origins = Origins::parse(&self.cors_origin).map_err(|problem| anyhow!("--cors-origin: {problem}"))?;
        let max_batch = self.max_batch;
        Ok(ServeSettings {
            address: SocketAddr::new(self.host, self.port),
            engine: EngineSettings {
                choice: self.engine,
                provider: self.provider.settings(),
                threads: self.threads,
                plan: None,
                max_batch,
                runtime: RuntimeSettings::from_env(),
            },
            limits: Limits {
                max_images: self.max_images,
                max_batch,
                exact: !self.fast_batches,
                queue: self.queue,
                max_body: self.max_body,
                request_timeout: self.timeout,
            },
            connections: ConnectionLimits {
                max: self.max_connections,
                client_timeout: self.client_timeout,
                idle_timeout: self.idle_timeout,
            },
            tls,
            gate: GateSettings { keys: self.api_keys.clone(), origins },
            replicas: self.replicas,
            shutdown_deadline: self.grace,
            models,
        })
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

/// An origin, or all of them.
fn origin(text: &str) -> Result<String, String> {
    Origins::parse(&[text.to_owned()]).map(|_| text.to_owned())
}

/// A number of seconds, as flags say it.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use drifting_serve::engine::{Precision, Provider, ProviderSettings};

    use super::*;
    use crate::flags;

    fn settings(flags: &[&str]) -> Result<ServeSettings> {
        let args = flags::parsed::<Args>(&[&["serve", "model.onnx"], flags].concat())?;
        args.settings(args.files.clone())
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
    fn who_is_let_in_is_a_setting() {
        let usual = settings(&[]).unwrap();
        assert_eq!((usual.tls, usual.gate, usual.connections), (None, GateSettings::default(), Default::default()));
        let flags = ["--api-keys", "keys", "--tls-cert", "c.pem", "--tls-key", "k.pem", "--max-body", "1000"];
        let more = ["--cors-origin", "https://a.example", "--cors-origin", "http://b.example:8080,http://c.example"];
        let limits = ["--max-connections", "5", "--client-timeout", "0.5", "--idle-timeout", "7"];
        let chosen = settings(&[&flags[..], &more, &limits].concat()).unwrap();
        assert_eq!(chosen.tls, Some(TlsSettings { certificate: "c.pem".into(), key: "k.pem".into() }));
        let Origins::Some(origins) = chosen.gate.origins else { panic!("{:?}", chosen.gate) };
        assert_eq!((chosen.gate.keys, origins.len(), chosen.limits.max_body), (Some("keys".into()), 3, 1000));
        let (client_timeout, idle_timeout) = (Duration::from_millis(500), Duration::from_secs(7));
        assert_eq!(chosen.connections, ConnectionLimits { max: 5, client_timeout, idle_timeout });
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
        assert!(refused(&["--tls-cert", "a.pem"]).contains("--tls-cert and --tls-key belong together"));
        assert!(refused(&["--cors-origin", "a.example"]).contains("it is http://HOST"));
        assert!(refused(&["--cors-origin", "*,https://a.example"]).contains("beside"));
    }
}
