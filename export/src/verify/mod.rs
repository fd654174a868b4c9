//! Holds an exported model against the network it was made from.
//!
//! A model passes if the checker accepts it, its weights are the network's (bit for bit, or as its profile rounds them),
//! and every engine gives the network's images for the edges of class, style and alpha, in batches of one, two and five.

mod cases;
mod file;
mod images;
mod network;
mod quality;
mod report;
mod runner;
mod verification;
mod weights;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use drifting_spec::Pixels;

use crate::{Profile, Result};
use quality::Gate;

pub(crate) use file::ModelFile;
pub(crate) use images::Images;
pub use images::{reference, verify};
pub(crate) use network::Maps;
pub use network::{NetworkRunner, network_reference, verify_network};
pub use report::{BatchReport, OutputRange, Report, RunnerReport};
pub use runner::{CandleOnnx, Runner};
pub(crate) use verification::OpenEngine;

/// Largest difference between an engine and candle for images in [-1, 1]; it grows with the largest number above 1.
pub const TOLERANCE: f32 = 1e-4;

/// Least peak signal-to-noise ratio of 16-bit profiles against candle in f32, in dB.
pub const LEAST_PSNR: f32 = 40.0;

/// The same for products of 8-bit integers.
pub const LEAST_PSNR_INT8: f32 = 30.0;

/// Largest difference between levels of pixels: a value in the middle between two may fall to either side.
const LEVEL_TOLERANCE: f32 = 1.0;

/// The report of a file whose engines are still to be asked: what is wrong with the file itself, and the gate for them.
fn begin(
    file: &ModelFile,
    tensors: &BTreeMap<String, Tensor>,
    pixels: Pixels,
    output: OutputRange,
) -> Result<(Report, Gate)> {
    let mut failures = file.faults();
    if failures.is_empty() {
        failures.extend(weights::differences(file, tensors)?);
    }
    if !output.is_finite() {
        failures.push("candle: the network's own output holds NaN or infinite numbers".into());
    }
    let psnr = match file.profile() {
        Profile::Portable | Profile::Ort => None,
        Profile::Fp16 | Profile::Bf16 => Some(LEAST_PSNR),
        Profile::Int8 => Some(LEAST_PSNR_INT8),
    };
    let difference = match pixels {
        Pixels::Float => TOLERANCE * output.largest().max(1.0),
        Pixels::Uint8 => LEVEL_TOLERANCE,
    };
    let report = Report {
        profile: file.profile(),
        batch: file.batch(),
        model_sha256: file.sha256()?,
        tool_version: env!("CARGO_PKG_VERSION").into(),
        parameters: tensors.len(),
        tolerance: difference,
        least_psnr_db: psnr,
        output,
        runners: Vec::new(),
        notes: Vec::new(),
        failures,
    };
    Ok((report, Gate { difference, psnr }))
}

/// An image with the element type that it has in a file.
fn stored(image: Tensor, pixels: Pixels) -> Result<Tensor> {
    if pixels.is_float() { Ok(image) } else { Ok(image.to_dtype(DType::U8)?) }
}
