//! From the numbers of an order to the body of its answer. Takes time: not for a thread that serves others.

mod base64;
mod exif;
mod npy;
mod photo;
mod png;

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use drifting_spec::{ImageShape, pixels};
use serde_json::json;

use super::error::{Allowed, ApiError};
use super::format::Format;
use super::parameters::Parameters;
use crate::service::Service;
use crate::worker::Order;

/// An image or a sheet.
struct Picture<'a> {
    /// Shape of `pixels`; 1 or 3 channels.
    shape: ImageShape,
    /// Interleaved bytes.
    pixels: &'a [u8],
}

/// What an image was made from.
struct Origin<'a> {
    order: Order,
    class_name: &'a str,
    /// SHA-256 of the model file.
    model: &'a str,
}

/// The program that wrote a file.
const SOFTWARE: &str = concat!("drifting ", env!("CARGO_PKG_VERSION"));

/// Checks that the format can hold the sheet, before anything is computed.
///
/// # Errors
/// 422 for a sheet with too long a side.
pub(super) fn check_size(service: &Service, parameters: &Parameters) -> Result<(), ApiError> {
    let (format, shape) = (parameters.format, service.image);
    let Some(longest) = format.longest_side() else { return Ok(()) };
    let count = parameters.order.count.get();
    let columns = columns(parameters);
    let side = |count: usize, length: usize| count.saturating_mul(length + pixels::SHEET_GAP) - pixels::SHEET_GAP;
    let (width, height) = (side(columns, shape.width), side(count.div_ceil(columns), shape.height));
    if width.max(height) <= longest {
        return Ok(());
    }
    let message = format!(
        "the sheet would be {width} x {height} pixels, and a side of {} has {longest} at most; ask for fewer images or another grid",
        format.name()
    );
    let able = Format::ALL.into_iter().filter(|other| other.longest_side().is_none_or(|side| side > longest));
    let able = able.map(|format| format.name().to_owned()).collect();
    Err(ApiError::range("format", message, Allowed::OneOf(able)))
}

/// Images in a row: as asked for, else as many as make the sheet as square as can be.
fn columns(parameters: &Parameters) -> usize {
    let count = parameters.order.count.get();
    match parameters.columns {
        0 => (1..=count).find(|columns| columns.saturating_mul(*columns) >= count).unwrap_or(1),
        columns => columns.min(count),
    }
}

/// The answer's body and its type.
///
/// # Errors
/// 500 for numbers that are no image.
pub(super) fn encode(service: &Service, parameters: &Parameters, values: &[f32]) -> Result<Response, ApiError> {
    let (range, shape) = (service.model.manifest.output_range(), service.image);
    let image = |planar| pixels::to_bytes(range, planar, shape).map_err(ApiError::internal);
    let images = values.chunks_exact(shape.len()).map(image).collect::<Result<Vec<_>, _>>()?;
    let order = parameters.order;
    let class_name = service.model.manifest.classes.get(order.class).map_or("", String::as_str);
    let origin = Origin { order, class_name, model: &service.model.sha256 };
    let body = match parameters.format {
        Format::Json => return json(&origin, &images, shape),
        Format::Npy => npy::encode(&images, shape),
        format => picture(format, &origin, &images, (shape, columns(parameters)))?,
    };
    let kind = HeaderValue::from_static(parameters.format.media_type());
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

/// One image as it is, several as a sheet.
fn picture(
    format: Format,
    origin: &Origin,
    images: &[Vec<u8>],
    (shape, columns): (ImageShape, usize),
) -> Result<Vec<u8>, ApiError> {
    if let [image] = images {
        return file(format, origin, "0", &Picture { shape, pixels: image });
    }
    let (shape, sheet) = pixels::sheet(images, shape, columns).map_err(ApiError::internal)?;
    let index = format!("0-{}", images.len().saturating_sub(1));
    file(format, origin, &index, &Picture { shape, pixels: &sheet })
}

/// A file that says what it was made from; `index` is its image's number, or the first and the last of a sheet.
fn file(format: Format, origin: &Origin, index: &str, picture: &Picture) -> Result<Vec<u8>, ApiError> {
    match format {
        Format::Jpeg => photo::jpeg(picture, exif::encode(origin, index)).map_err(ApiError::internal),
        Format::Webp => photo::webp(picture, exif::encode(origin, index)).map_err(ApiError::internal),
        _ => png::encode(picture, &png::text(origin, index)).map_err(ApiError::internal),
    }
}

/// Every image as a PNG of its own.
fn json(origin: &Origin, images: &[Vec<u8>], shape: ImageShape) -> Result<Response, ApiError> {
    let Order { class, alpha, seed, .. } = origin.order;
    let class_name = origin.class_name;
    let mut list = Vec::with_capacity(images.len());
    for (index, image) in images.iter().enumerate() {
        let png = file(Format::Png, origin, &index.to_string(), &Picture { shape, pixels: image })?;
        let (png, index) = (base64::encode(&png), index as u64);
        list.push(json!({
            "index": index, "seed": seed, "class": class, "class_name": class_name, "alpha": alpha, "png": png
        }));
    }
    Ok(Json(json!({ "seed": seed, "model": origin.model, "images": list })).into_response())
}
