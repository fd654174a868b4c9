//! How far a row of measurements is: a bar on a terminal, lines elsewhere.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

/// Shows on standard error which measurement runs.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(crate) fn new() -> Self {
        Self(stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}");
            let bar = ProgressBar::new(0);
            style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
        }))
    }

    /// Whether what was shown is overwritten, so that it may be shown often.
    pub(crate) fn moves(&self) -> bool {
        self.0.is_some()
    }

    /// `what` runs after `done` of `all` measurements.
    pub(crate) fn show(&self, (done, all): (usize, usize), what: String) {
        match &self.0 {
            Some(bar) => {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
                bar.set_message(what);
            }
            None => eprintln!("[{}/{all}] {what}", done + 1),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
