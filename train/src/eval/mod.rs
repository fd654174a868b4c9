//! Judging what a generator has learned.
