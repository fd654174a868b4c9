//! `drifting serve`: flags, environment and file to settings, settings to a server.

mod args;
mod file;
mod layers;
mod print;

use std::io::IsTerminal;

use anyhow::Context;
use drifting_serve::{ServeSettings, Server};
use tracing_subscriber::EnvFilter;

pub(crate) use args::{Args, seconds};
pub(crate) use layers::Layers;

/// Serves until Ctrl-C or SIGTERM.
pub(crate) fn run(args: &Args, layers: &Layers) -> anyhow::Result<()> {
    let from_file = layers.file.as_ref().map(|file| &file.models[..]).unwrap_or_default();
    if args.print_settings {
        print!("{}", print::settings(layers, args.named(from_file)));
        return Ok(());
    }
    let models = args.models(from_file)?;
    log(args.log_json);
    for (name, meant) in layers::unknown_variables(&layers.command) {
        let hint = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        tracing::warn!("the environment variable {name} is no setting{hint}");
    }
    serve(&args.settings(models)?)
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
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    println!("Open {scheme}://{}/ (Ctrl-C stops)", server.local_addr());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    #[cfg(feature = "otlp")]
    let collector = drifting_serve::Collector::from_env(runtime.handle().clone())?;
    let result = runtime.block_on(async {
        let stop = stop_signal()?;
        server.run(stop).await.map_err(anyhow::Error::from)
    });
    #[cfg(feature = "otlp")]
    if let Some(Err(error)) = collector.map(drifting_serve::Collector::finish) {
        tracing::warn!("{error}");
    }
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
