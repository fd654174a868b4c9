//! The objective against golden numbers, against a plain twin of itself, and in its properties.

mod golden;
mod properties;
mod reference;
mod support;
mod twin;

mod timing;
