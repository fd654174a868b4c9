//! The program that runs, for `run.json`.

use drifting_train::run::Build;

/// Version, commit, compiler and candle of this program.
pub(crate) fn build() -> Build {
    Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("DRIFTING_COMMIT").to_owned(),
        dirty: env!("DRIFTING_DIRTY") == "true",
        rustc: env!("DRIFTING_RUSTC").to_owned(),
        candle: env!("DRIFTING_CANDLE").to_owned(),
    }
}

/// The command line.
pub(crate) fn command() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}
