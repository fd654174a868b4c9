//! What a person sees of a training run: a bar on a terminal, plain lines when piped.

use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use drifting_train::config::RunSettings;
use drifting_train::run::{Observer, Report};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Weight of the newest step in the averages that are shown.
const SMOOTHING: f64 = 0.05;

/// Shows steps, images a second, time left and the share of time spent waiting for data.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    images: usize,
    seconds: f64,
    waiting: f64,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let last_line = Instant::now();
        Self { bar: None, total: 0, images: 0, seconds: 0.0, waiting: 0.0, last_line }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    fn status(&self, report: &Report) -> String {
        let rate = self.images as f64 / self.seconds.max(1e-9);
        let waiting = 100.0 * self.waiting / self.seconds.max(1e-9);
        format!("{rate:.0} images/s, data {waiting:.0} %, {}", report.status)
    }
}

impl Observer for Progress {
    fn started(&mut self, step: u64, settings: &dyn RunSettings) {
        (self.total, self.images) = (settings.steps(), settings.images_per_step());
        if step > 0 {
            self.say(&format!("going on at step {step} of {}", self.total));
        }
        if stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps, {eta} left  {msg}");
            let bar = ProgressBar::new(self.total).with_position(step);
            self.bar = Some(style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style)));
        }
    }

    fn stepped(&mut self, report: &Report) {
        let (wall, waiting) = (report.wall.as_secs_f64(), report.data_wait.as_secs_f64());
        let new = if self.seconds == 0.0 { 1.0 } else { SMOOTHING };
        self.seconds += new * (wall - self.seconds);
        self.waiting += new * (waiting - self.waiting);
        let status = self.status(report);
        if let Some(bar) = &self.bar {
            bar.set_position(report.step);
            bar.set_message(status);
            if report.step == self.total {
                bar.finish();
            }
        } else if self.last_line.elapsed() > LINE_EVERY || report.step == self.total {
            self.last_line = Instant::now();
            let left = Duration::from_secs_f64((self.total - report.step) as f64 * self.seconds);
            eprintln!("step {}/{}, {} left, {status}", report.step, self.total, HumanDuration(left));
        }
    }

    fn wrote(&mut self, path: &Path) {
        self.say(&format!("wrote {}", path.display()));
    }
}
