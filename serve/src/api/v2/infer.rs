//! `POST /v2/models/NAME/infer`: orders for rows of tensors, and tensors of their images.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use drifting_spec::pixels;
use serde::Serialize;

use super::tensors::{self, Asked, Output};
use super::{Named, VERSION};
use crate::api::error::ApiError;
use crate::api::generate;
use crate::api::given;
use crate::metrics::Times;
use crate::models::Models;
use crate::service::Service;
use crate::spans;
use crate::worker::{Made, Order};

/// The body of an answer.
#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    model_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Tensor>,
}

#[derive(Serialize)]
struct Tensor {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Levels(Vec<u8>),
    Seeds(Vec<u64>),
    Values(Vec<f32>),
}

pub(super) async fn infer(
    State(models): State<Arc<Models>>,
    Named { name, service }: Named,
    request: Request,
) -> Result<Response, ApiError> {
    let begun = Instant::now();
    let body = given::json(request, &service.limits).await?;
    let asked = tensors::read(&body, &service.model.manifest, service.limits.max_images)?;
    generate::check_draining(&models)?;
    let made = make(&service, &asked.orders).await?;
    let headers = generate::about_making(&service, &made);
    let metrics = service.metrics.clone();
    let (images, queue, compute) = (made.values.len() / service.image.len().max(1), made.queue, made.compute);
    let encoded = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        encode(&service, &name, &asked, &made.values).map(|body| (body, begun.elapsed()))
    });
    let (body, encode) = encoded.await.map_err(ApiError::internal)??;
    let times = Times { queue, compute, encode, total: begun.elapsed() };
    metrics.made(images, times);
    let mut response = ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response();
    spans::note(&mut response, times);
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Puts all orders into the queue, so that they share batches, and joins their images. If one is refused, those before it
/// are withdrawn.
async fn make(service: &Service, orders: &[Order]) -> Result<Made, ApiError> {
    let begun = tokio::time::Instant::now();
    let submitted = orders.iter().map(|order| generate::submit(service, *order)).collect::<Result<Vec<_>, _>>()?;
    let mut all = Made::default();
    for answer in submitted {
        let made = generate::wait(service, answer, begun).await?;
        all.values.extend(made.values);
        all.queue = all.queue.max(made.queue);
        all.compute = all.compute.max(made.compute);
        all.batch = all.batch.max(made.batch);
    }
    Ok(all)
}

fn encode(service: &Service, name: &str, asked: &Asked, values: &[f32]) -> Result<Vec<u8>, ApiError> {
    let shape = service.image;
    let seeds: Vec<u64> =
        asked.orders.iter().flat_map(|order| std::iter::repeat_n(order.seed, order.count.get())).collect();
    let of_images = vec![seeds.len(), shape.channels, shape.height, shape.width];
    let range = service.model.manifest.output_range();
    let tensor = |output: &Output| {
        let (datatype, shape, data) = match output {
            Output::Image => {
                let levels = values.iter().map(|value| pixels::level(range, *value) as u8);
                ("UINT8", of_images.clone(), Data::Levels(levels.collect()))
            }
            Output::Seed => ("UINT64", vec![seeds.len()], Data::Seeds(seeds.clone())),
            Output::Values => ("FP32", of_images.clone(), Data::Values(values.to_vec())),
        };
        Tensor { name: output.name(), datatype, shape, data }
    };
    let outputs = asked.outputs.iter().map(tensor).collect();
    let answer = Answer { model_name: name, model_version: VERSION, id: asked.id.as_deref(), outputs };
    serde_json::to_vec(&answer).map_err(ApiError::internal)
}
