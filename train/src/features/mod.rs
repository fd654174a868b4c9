//! Feature keys: the spaces in which samples drift.
