//! The processes of a training run.

use anyhow::Result;
use drifting_train::ranks::{Alone, Ranks};

/// What launchers tell each process: how many there are, or which it is.
const LAUNCHED: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK"];

/// Those that a launcher has started with this one, or this one alone.
pub(crate) fn start() -> Result<Box<dyn Ranks>> {
    let by = LAUNCHED.into_iter().find(|name| std::env::var_os(name).is_some());
    match by {
        Some(name) if std::env::var(name).is_ok_and(|number| number != "1" || !name.ends_with("SIZE")) => join(name),
        _ => Ok(Box::new(Alone)),
    }
}

#[cfg(feature = "mpi")]
fn join(_: &str) -> Result<Box<dyn Ranks>> {
    use anyhow::Context;
    Ok(Box::new(
        drifting_train::ranks::Mpi::start()
            .context("MPI cannot be started, or not for programs of several threads (MPI_THREAD_SERIALIZED)")?,
    ))
}

/// One process of several must not believe that it is alone.
#[cfg(not(feature = "mpi"))]
fn join(name: &str) -> Result<Box<dyn Ranks>> {
    anyhow::bail!(
        "started as one of several processes ({name} is set), by a program that was built without the feature `mpi` (docs/ranks.md)"
    )
}
