//! The objective of one key by kernels, which pass over memory once where tensor operations do often.

use candle_core::{Device, Tensor};
use drifting_kernels::{Argument, Launch, Output, launch, source};

use super::super::batch::{Columns, KeyShape};
use super::super::problem::MIN_SQUARED_DISTANCE;
use super::super::settings::{Coupling, DriftSettings, Kernel, WeightPlacement};
use super::{TensorBatch, TensorResult};

/// Threads of a block where each has a number to itself.
const THREADS: usize = 256;
/// Bytes of shared memory that every GPU has for a block.
const SHARED: usize = 48 << 10;

/// The points `[groups, T, images, D]` of a batch, about the centre of each problem if `centred`, and the distances `[groups, T, Ng,
/// targets]` (method step 1).
pub(super) fn distances(batch: &TensorBatch<'_>, centred: bool) -> TensorResult<(Tensor, Tensor)> {
    let KeyShape { groups, locations, generated, positives, unconditional, dim } = batch.shape;
    let (targets, problems) = (batch.columns().targets, groups * locations);
    let device = batch.generated.device();
    let given = [&batch.generated.contiguous()?, &batch.real.contiguous()?].map(Clone::clone);
    let given = given.each_ref().map(Argument::Input);
    let sizes = [groups, locations, dim, generated, unconditional, positives].map(Argument::Count);
    let [centres] = launch(
        source::DRIFT.kernel("drift_centres"),
        Launch { grid: [problems, dim.div_ceil(THREADS), 1], threads: THREADS, shared: 0 },
        device,
        [Output::f32(&[problems, dim])],
        &[&given[..], &sizes].concat(),
    )?;
    let [points, squares] = launch(
        source::DRIFT.kernel("drift_points"),
        Launch::rows(problems * targets),
        device,
        [Output::f32(&[groups, locations, targets, dim]), Output::f32(&[problems, targets])],
        &[&given[..], &[Argument::Input(&centres)], &sizes, &[Argument::Count(usize::from(centred))]].concat(),
    )?;
    let products = points.narrow(2, 0, generated)?.contiguous()?.matmul(&points.t()?)?;
    let [distances] = launch(
        source::DRIFT.kernel("drift_distances"),
        Launch::over(products.elem_count(), THREADS),
        device,
        [Output::f32(products.dims())],
        &[
            Argument::Input(&products),
            Argument::Input(&squares),
            Argument::Count(problems),
            Argument::Count(generated),
            Argument::Count(targets),
            Argument::Count(usize::from(centred)),
            Argument::Number(MIN_SQUARED_DISTANCE),
        ],
    )?;
    Ok((points, distances))
}

/// The coefficients c `[temperatures, groups, T, Ng, targets]` of V = sum of c y, if kernels know such settings and sizes; `scales`
/// has what distances are multiplied by for each group.
pub(super) fn coefficients(
    batch: &TensorBatch<'_>,
    settings: &DriftSettings,
    distances: &Tensor,
    scales: &Tensor,
) -> TensorResult<Option<Tensor>> {
    let KeyShape { groups, locations, generated, .. } = batch.shape;
    let Columns { negatives, targets, .. } = batch.columns();
    let official = settings.coupling == Coupling::Joint
        && settings.normalize_over_y
        && settings.normalize_over_x
        && settings.sinkhorn_iterations == 0
        && settings.weight_placement != WeightPlacement::Logits;
    let shared = 4 * 2 * (generated + targets);
    if !official || shared > SHARED {
        return Ok(None);
    }
    let device = distances.device();
    let (problems, temperatures) = (groups * locations, settings.temperatures.len());
    let temperature = Tensor::from_slice(&settings.temperatures, temperatures, device)?;
    let gaussian = usize::from(settings.kernel == Kernel::Gaussian);
    let sizes = [problems, locations, generated, targets, negatives, gaussian].map(Argument::Count);
    let mask = if settings.mask_self_negatives { settings.mask } else { 0.0 };
    let numbers = [mask, settings.floor, settings.attraction, settings.repulsion].map(Argument::Number);
    let [coefficients] = launch(
        source::DRIFT.kernel("drift_coefficients"),
        Launch { grid: [temperatures * problems, 1, 1], threads: THREADS, shared },
        device,
        [Output::f32(&[temperatures, groups, locations, generated, targets])],
        &[&[distances, scales, &batch.targets.weights, &temperature].map(Argument::Input)[..], &sizes, &numbers]
            .concat(),
    )?;
    Ok(Some(coefficients))
}

/// Sums over each group of the squares of drifts `[groups, T, Ng, D]`, `[groups]`.
pub(super) fn square_sums(drifts: &Tensor) -> TensorResult<Tensor> {
    let (groups, locations, samples, dim) = drifts.dims4()?;
    let rows = groups * locations * samples;
    let [squares] = launch(
        source::DRIFT.kernel("drift_squares"),
        Launch::rows(rows),
        drifts.device(),
        [Output::f32(&[groups, locations * samples])],
        &[Argument::Input(drifts), Argument::Count(rows), Argument::Count(dim)],
    )?;
    squares.sum(1)
}

/// The force: the drifts of all temperatures, each times a factor for each group.
pub(super) fn force<'a>(drifts: impl Iterator<Item = (&'a Tensor, Tensor)>) -> TensorResult<Option<Tensor>> {
    let mut force: Option<Tensor> = None;
    for (drift, factors) in drifts {
        let (groups, locations, samples, dim) = drift.dims4()?;
        let sum = match force.take() {
            Some(force) => force,
            None => drift.zeros_like()?,
        };
        let rows = groups * locations * samples;
        let [] = launch(
            source::DRIFT.kernel("drift_add"),
            Launch::rows(rows),
            drift.device(),
            [],
            &[
                Argument::Changed(&sum),
                Argument::Input(drift),
                Argument::Input(&factors),
                Argument::Count(rows),
                Argument::Count(locations * samples),
                Argument::Count(dim),
            ],
        )?;
        force = Some(sum);
    }
    Ok(force)
}

/// The force times a slope for each group as a gradient `[groups * Ng, T, D]`, and the squared lengths of its vectors, without slopes.
pub(super) fn gradient(force: &Tensor, slopes: &Tensor) -> TensorResult<(Tensor, Tensor)> {
    let (groups, locations, samples, dim) = force.dims4()?;
    let rows = groups * locations * samples;
    let sizes = [groups, locations, samples, dim].map(Argument::Count);
    let [gradient, squares] = launch(
        source::DRIFT.kernel("drift_gradient"),
        Launch::rows(rows),
        force.device(),
        [Output::f32(&[groups * samples, locations, dim]), Output::f32(&[rows])],
        &[&[Argument::Input(force), Argument::Input(slopes)][..], &sizes].concat(),
    )?;
    Ok((gradient, squares))
}

/// Whether the objective of features on `device` goes through kernels.
pub(super) fn available(device: &Device) -> bool {
    drifting_models::ops::kernels(device)
}
