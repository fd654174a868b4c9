//! Convolutions with group norms in a row as one operation.

use candle_core::{D, Result, Tensor};
use drifting_kernels::{Argument, Launch, Output, launch, source};

use super::super::conv::geometry::Geometry;
use super::super::conv_chain::{ConvChain, ConvNorm, Skip};
use super::super::tensors::conv;
use super::super::tensors::reversible::{Back, reversible};
use super::{THREADS, group_norm, there};

/// [`conv_chain`](super::super::conv_chain()) by kernels.
pub(in super::super) fn conv_chain(x: &Tensor, parameters: &Tensor, chain: &ConvChain) -> Result<Tensor> {
    let wanted = [x, parameters].map(Tensor::track_op);
    let flat = parameters.detach();
    let mut at = 0;
    let mut part = |settings: &ConvNorm| {
        let len = settings.sizes()[0] + 2 * settings.sizes()[1];
        at += len;
        flat.narrow(0, at - len, len)
    };
    let mut y = x.detach();
    let mut layers = Vec::new();
    for (i, settings) in chain.layers.iter().enumerate() {
        let (next, back) = layer(&y, &part(settings)?, settings, [i > 0 || wanted[0], wanted[1]])?;
        layers.push(back);
        y = next;
    }
    let (skipped, projection) = match &chain.skip {
        Skip::None => (None, None),
        Skip::Identity => (Some(x.detach()), None),
        Skip::Projection(settings) => {
            let (skipped, back) = layer(&x.detach(), &part(settings)?, settings, wanted)?;
            (Some(skipped), Some(back))
        }
    };
    let residual = skipped.is_some();
    if let Some(skipped) = skipped {
        y = sum_relu(&y, &skipped)?;
    }
    reversible([x, parameters], y, move |y, dy| {
        let mut dy = if residual { relu_back(y, dy)? } else { dy.clone() };
        let skipped = dy.clone();
        let mut gradients = Vec::new();
        let mut dx = None;
        for back in layers.iter().rev() {
            let [of_x, of_parameters] = back(&dy)?;
            gradients.extend(of_parameters);
            if let Some(of_x) = &of_x {
                dy = of_x.clone();
            }
            dx = of_x;
        }
        gradients.reverse();
        let around = match &projection {
            Some(back) => {
                let [of_x, of_parameters] = back(&skipped)?;
                gradients.extend(of_parameters);
                of_x
            }
            None => residual.then_some(skipped),
        };
        if let (Some(straight), Some(around)) = (&dx, around) {
            dx = Some((straight + around)?);
        }
        let dparameters = wanted[1].then(|| Tensor::cat(&gradients, 0)).transpose()?;
        Ok([dx, dparameters])
    })
}

/// One layer: its result, and what makes the gradients of x and of its parameters, flat, as far as they are wanted.
fn layer(
    x: &Tensor,
    parameters: &Tensor,
    settings: &ConvNorm,
    wanted: [bool; 2],
) -> Result<(Tensor, Box<dyn Back<2>>)> {
    let [kernel, channels] = settings.sizes();
    let weight = parameters.narrow(0, 0, kernel)?.reshape(&settings.kernel)?;
    let (scale, bias) = (parameters.narrow(0, kernel, channels)?, parameters.narrow(0, kernel + channels, channels)?);
    let geometry = Geometry::new(x.dims4()?, weight.dims4()?, settings.conv)?;
    let (y, through) = conv::there_and_back(geometry, x, &weight, wanted)?;
    let (y, behind) = group_norm::there_and_back(&y, &scale, &bias, settings.norm, [true, wanted[1]])?;
    let back = move |dy: &Tensor| {
        let [dy, dscale, dbias] = behind(dy)?;
        let [dx, dweight] = through(&there(dy)?)?;
        let parts = [dweight, dscale, dbias].into_iter().flatten().map(|part| part.flatten_all());
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let dparameters = if parts.is_empty() { None } else { Some(Tensor::cat(&parts, 0)?) };
        Ok([dx, dparameters])
    };
    Ok((y, Box::new(back)))
}

/// Rows and columns of all numbers, for kernels that know none.
fn sizes(x: &Tensor) -> Result<[Argument<'static>; 2]> {
    let columns = x.dim(D::Minus1)?;
    Ok([x.elem_count() / columns.max(1), columns].map(Argument::Count))
}

fn sum_relu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        candle_core::bail!("a residual connection from {:?} to {:?}", b.dims(), a.dims());
    }
    let b = b.contiguous()?;
    let arguments = [&[Argument::Input(a), Argument::Input(&b)][..], &sizes(a)?].concat();
    let over = Launch::over(a.elem_count(), THREADS);
    let [y] = launch(source::ROWS.kernel("sum_relu"), over, a.device(), [Output::f32(a.dims())], &arguments)?;
    Ok(y)
}

fn relu_back(y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let arguments = [&[Argument::Input(y), Argument::Input(dy)][..], &sizes(y)?].concat();
    let over = Launch::over(y.elem_count(), THREADS);
    let [dx] = launch(source::ROWS.kernel("relu_back"), over, y.device(), [Output::f32(y.dims())], &arguments)?;
    Ok(dx)
}
