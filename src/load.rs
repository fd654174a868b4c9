//! `drifting load`: how a server bears many requests.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use drifting_models::weights::write_bytes;
use drifting_serve::load::{Arrivals, Load, LoadSettings, Progress, Question, Windows, load};

use crate::bar::Bar;

/// Send requests to a server and measure how it bears them.
///
/// --concurrency is a closed loop: so many clients, each of which sends its next request when its last was answered. It
/// finds the most that the server can do. --rate is an open loop: so many requests a second, whatever becomes of them;
/// their time counts from when they were due, so that a server that stalls cannot hide it. Both may be given; without
/// either, 1 client asks.
///
/// Each load warms up, then runs windows until the medians of three in a row are within 10 % of each other, or
/// --seconds are over. The last three windows count. The table tells the requests that were answered with images:
/// their number, rate and latency (half, 90, 99 and 99.9 % were no slower; "-" where too few were answered to tell); the
/// medians of x-queue-ms and x-compute-ms and the mean of x-batch-size, which the server sends; requests that were refused
/// (429); and errors, which are listed by kind below it. "*" marks a load that did not settle.
///
/// The exit status is 1 if no request was answered with images.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The server, such as http://127.0.0.1:8000, or the full address of its images
    #[arg(value_name = "URL")]
    address: String,

    /// Clients of the closed loop
    #[arg(long, value_name = "N,N,...", value_delimiter = ',')]
    concurrency: Vec<usize>,

    /// Requests a second of the open loop
    #[arg(long, value_name = "R,R,...", value_delimiter = ',')]
    rate: Vec<f64>,

    /// How the requests of the open loop follow each other: poisson (at random, as people do), constant
    #[arg(long, value_name = "NAME", default_value_t)]
    arrivals: Arrivals,

    /// Class of the images by number or name; of several, each request takes one at random
    #[arg(long, value_name = "CLASS,...", value_delimiter = ',', default_value = "0")]
    class: Vec<String>,

    /// Guidance [default: the model's]
    #[arg(long)]
    alpha: Option<f64>,

    /// Images of one request
    #[arg(long, default_value_t = 1)]
    n: usize,

    /// Format of the answer, as the server names it [default: the server's]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,

    /// Gives the seeds and classes of the requests, and when those of the open loop are due
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// A header of every request, such as an API key
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,

    /// Seconds after which a request is given up
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = crate::serve::seconds)]
    timeout: Duration,

    /// Seconds of warm-up of each load
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = crate::serve::seconds)]
    warm_up: Duration,

    /// Seconds of one window, which holds at least five requests
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = crate::serve::seconds)]
    window: Duration,

    /// Seconds of each load at most, without its warm-up
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = crate::serve::seconds)]
    seconds: Duration,

    /// Requests of the open loop that may be on their way at a time; further ones wait, and their time counts
    #[arg(long, value_name = "N", default_value_t = 512)]
    most_open: usize,

    /// Write the measurements as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  drifting load http://127.0.0.1:8000 --concurrency 1,8,64
  drifting load http://127.0.0.1:8000 --rate 5,20 --class 3,Bag --csv load.csv
  drifting load http://127.0.0.1:8000 --rate 50 --window 20 --seconds 60    # a full minute";

impl Args {
    fn settings(&self) -> LoadSettings {
        let closed = self.concurrency.iter().map(|&clients| Load::Closed { clients });
        let open = self.rate.iter().map(|&rate| Load::Open { rate, arrivals: self.arrivals });
        let mut loads: Vec<Load> = closed.chain(open).collect();
        if loads.is_empty() {
            loads.push(Load::Closed { clients: 1 });
        }
        let most = self.seconds.as_secs_f64() / self.window.as_secs_f64();
        LoadSettings {
            address: self.address.clone(),
            headers: self.headers.clone(),
            loads,
            question: Question {
                classes: self.class.clone(),
                alpha: self.alpha,
                images: self.n,
                format: self.format.clone(),
                seed: self.seed,
            },
            windows: Windows {
                warm_up: self.warm_up,
                length: self.window.min(self.seconds),
                most: most as usize,
                ..Windows::default()
            },
            timeout: self.timeout,
            most_open: self.most_open,
        }
    }
}

/// A header, as flags say it.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text:?} is not of the form NAME: VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Measures, writes and prints.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    for path in [&args.csv, &args.json].into_iter().flatten() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        ensure!(folder.is_dir(), "{}: its folder does not exist", path.display());
    }
    let bar = Bar::new();
    let report = load(&args.settings(), &mut |now| bar.show(now.done, words(now)))?;
    bar.finish();
    print!("{report}");
    if let Some(path) = &args.csv {
        write_bytes(path, report.csv().as_bytes())?;
    }
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).context("the report is no JSON")?;
        write_bytes(path, format!("{json}\n").as_bytes())?;
    }
    if !report.succeeded() {
        eprintln!("error: no request was answered with images");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is being done, in words.
fn words(now: &Progress) -> String {
    let Progress { load, window, requests_per_second, median, .. } = now;
    if *window == 0 {
        format!("{load}: warming up")
    } else if median.is_nan() {
        format!("{load}: window {window}, no images")
    } else {
        format!("{load}: window {window}, {requests_per_second:.1} requests/s, median {median:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags;

    fn parse(flags: &[&str]) -> Result<LoadSettings, clap::Error> {
        Ok(flags::parsed::<Args>(&[&["load", "localhost:8000"], flags].concat())?.settings())
    }

    #[test]
    fn flags_become_settings() {
        let usual = parse(&[]).unwrap();
        assert_eq!((usual.loads, usual.question), (vec![Load::Closed { clients: 1 }], Question::default()));
        assert_eq!((usual.windows.most, usual.windows.length), (10, Duration::from_secs(3)));
        let flags = ["--concurrency", "1,8", "--rate", "2.5", "--arrivals", "constant", "--class", "3,Bag"];
        let more = ["--n", "4", "--alpha", "2", "--seconds", "60", "--window", "20", "--header", "x-key: a:b"];
        let chosen = parse(&[&flags[..], &more].concat()).unwrap();
        let open = Load::Open { rate: 2.5, arrivals: Arrivals::Constant };
        assert_eq!(chosen.loads, [Load::Closed { clients: 1 }, Load::Closed { clients: 8 }, open]);
        assert_eq!((chosen.question.classes, chosen.question.images), (vec!["3".to_owned(), "Bag".to_owned()], 4));
        assert_eq!((chosen.windows.most, chosen.question.alpha), (3, Some(2.0)));
        assert_eq!(chosen.headers, [("x-key".to_owned(), "a:b".to_owned())]);
    }

    #[test]
    fn times_that_do_not_fit_are_no_panic() {
        let windows = |seconds, window| parse(&["--seconds", seconds, "--window", window]).unwrap().windows;
        assert_eq!((windows("1", "3").length, windows("1", "3").most), (Duration::from_secs(1), 0));
        assert!(windows("1", "0").length.is_zero() && windows("0", "0").most == 0);
        let refused = |flags: &[&str]| parse(flags).unwrap_err().to_string();
        assert!(refused(&["--arrivals", "uniform"]).contains("poisson, constant"));
        assert!(refused(&["--header", "x-key"]).contains("NAME: VALUE"));
    }
}
