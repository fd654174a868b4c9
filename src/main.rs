//! The command `drifting`: images to a served one-step generator.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to people")]

mod ablate;
mod bar;
mod bench;
mod build;
mod data;
mod demo;
mod doctor;
mod engines;
mod eval;
mod export;
#[cfg(test)]
mod flags;
mod import;
mod judge;
mod load;
mod memory;
mod models;
mod new;
mod progress;
mod provider;
mod ranks;
mod report;
mod runtime;
mod sample;
mod serve;
mod shipped;
mod target;
mod train;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Image generators that need one forward pass, trained by drifting: train, export to ONNX, serve over HTTP.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Learn to draw clothes in five minutes, export the model, verify it, judge it and serve it.
    Demo(demo::Args),
    /// Write a configuration for your own images.
    New(new::Args),
    /// Train what a configuration describes, or go on with a run that was stopped.
    Train(train::Args),
    /// Look at a data set, or encode it into latents.
    Data(data::Args),
    /// Generate images with a run, a weight file or an exported model.
    Sample(sample::Args),
    /// Measure how good generated images are.
    Eval(eval::Args),
    /// Write a page about runs: settings, curves, pictures, measurements.
    Report(report::Args),
    /// Train variants of a configuration and report which is better.
    Ablate(ablate::Args),
    /// Write a generator as an ONNX file and verify it.
    Export(export::Args),
    /// Serve an exported model over HTTP.
    Serve(serve::Args),
    /// Measure how fast an exported model is on this machine.
    Bench(bench::Args),
    /// Send requests to a server and measure how it bears them.
    Load(load::Args),
    /// Turn the published artefact of a generator into a weight file.
    Import(import::Args),
    /// Install the libraries of the engines.
    Runtime(runtime::Args),
    /// Tell which engines and libraries are there, and what is missing.
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Wrong words, or a question for help.
            if let Some(error) = error.downcast_ref::<clap::Error>() {
                error.exit();
            }
            eprintln!("error: {}", message(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let words: Vec<_> = std::env::args_os().collect();
    let layers = serve::Layers::read(Cli::command(), &words)?;
    match Cli::from_arg_matches(&layers.matches)?.command {
        Command::Demo(args) => demo::run(&args),
        Command::New(args) => new::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Train(args) => train::run(&args),
        Command::Data(args) => data::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Sample(args) => sample::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Ablate(args) => ablate::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Serve(args) => serve::run(&args, &layers).map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Load(args) => load::run(&args),
        Command::Import(args) => import::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Runtime(args) => runtime::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(&args).map(|()| ExitCode::SUCCESS),
    }
}

/// The error and its causes, without those that it already tells.
fn message(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}
