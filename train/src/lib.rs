//! Training by drifting: the field, features, data, the loop and its run folder.

mod canvas;
pub mod config;
pub mod data;
pub mod drift;
pub mod eval;
pub mod features;
pub mod mae;
pub mod optim;
pub mod profile;
pub mod ranks;
pub mod run;
pub mod toy;
pub mod trainer;
