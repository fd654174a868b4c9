//! Flags of a command as its tests type them.

use clap::Args;

/// `words`, the first of which is the command's name, as its arguments.
pub(crate) fn parsed<A: Args>(words: &[&str]) -> Result<A, clap::Error> {
    let mut matches = A::augment_args(clap::Command::new("test")).try_get_matches_from(words)?;
    A::from_arg_matches_mut(&mut matches)
}
