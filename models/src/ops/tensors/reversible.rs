//! Operations in tensor operations with a way back of their own, for devices other than the processor: of the way there they keep
//! what they need, and no gradient is computed that nobody asked for.

use std::sync::{Mutex, PoisonError};

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, Var, bail,
};

use super::super::inner::inner;

/// What makes the gradients of `N` inputs of that of a result.
pub(in super::super) trait Back<const N: usize>:
    Fn(&Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static
{
}

impl<const N: usize, F> Back<N> for F where F: Fn(&Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static {}

/// Gradients of `N` inputs from the result and its gradient.
type WayBack<const N: usize> = Box<dyn Fn(&Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync>;

/// `y`, computed without a graph, as the result of an operation on `inputs` whose gradients `back` computes from y and its gradient.
///
/// # Errors
/// More than three inputs, or none.
pub(in super::super) fn reversible<const N: usize>(
    inputs: [&Tensor; N],
    y: Tensor,
    back: impl Fn(&Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !inputs.iter().any(|input| input.track_op()) {
        return Ok(y);
    }
    let y = y.contiguous()?;
    let begins = y.layout().start_offset() == 0;
    let y = if begins { y } else { y.force_contiguous()? };
    let op = Made { y: Mutex::new(Some(y)), back: Box::new(back) };
    match inputs.as_slice() {
        [x] => x.apply_op1(op),
        [x, y] => x.apply_op2(y, op),
        [x, y, z] => x.apply_op3(y, z, op),
        _ => bail!("an operation on {N} tensors: between 1 and 3 can be tracked"),
    }
}

/// `f` of `inputs`, of which only they are kept: on the way back it is computed once more.
///
/// # Errors
/// Those of `f`, and as [`reversible`].
pub(in super::super) fn recomputed<const N: usize>(
    inputs: [&Tensor; N],
    f: impl Fn([&Tensor; N]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let wanted = inputs.map(Tensor::track_op);
    let kept = inputs.map(Tensor::detach);
    let y = f(kept.each_ref())?;
    reversible(inputs, y, move |_, dy| {
        let mut found = [const { None }; N];
        let mut again = kept.clone();
        for (input, _) in again.iter_mut().zip(wanted).filter(|(_, wanted)| *wanted) {
            *input = Var::from_tensor(input)?.into_inner();
        }
        let mut gradients = inner(&f(again.each_ref())?, dy)?.backward()?;
        for ((found, input), wanted) in found.iter_mut().zip(&again).zip(wanted) {
            *found = if wanted { gradients.remove(input) } else { None };
        }
        Ok(found)
    })
}

struct Made<const N: usize> {
    /// Until it is handed over.
    y: Mutex<Option<Tensor>>,
    back: WayBack<N>,
}

impl<const N: usize> Made<N> {
    fn take(&self) -> Result<(Storage, Shape)> {
        match self.y.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(y) => {
                let (storage, layout) = y.storage_and_layout();
                Ok((storage.try_clone(layout)?, layout.shape().clone()))
            }
            None => bail!("the result of an operation was handed over before"),
        }
    }

    fn on_cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => bail!("a result on another device than the inputs"),
        }
    }

    fn on_cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => bail!("a result on another device than the inputs"),
        }
    }

    fn gradient<const M: usize>(&self, y: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; M]> {
        let mut found = [const { None }; M];
        found.iter_mut().zip((self.back)(y, &dy.contiguous()?)?).for_each(|(found, gradient)| *found = gradient);
        Ok(found)
    }
}

impl<const N: usize> CustomOp1 for Made<N> {
    fn name(&self) -> &'static str {
        "reversible"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn bwd(&self, _: &Tensor, result: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [x] = self.gradient(&result.detach(), dy)?;
        Ok(x)
    }
}

impl<const N: usize> CustomOp2 for Made<N> {
    fn name(&self) -> &'static str {
        "reversible"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, result: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [x, y] = self.gradient(&result.detach(), dy)?;
        Ok((x, y))
    }
}

impl<const N: usize> CustomOp3 for Made<N> {
    fn name(&self) -> &'static str {
        "reversible"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.on_cpu()
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        result: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [x, y, z] = self.gradient(&result.detach(), dy)?;
        Ok((x, y, z))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{agrees, random};
    use super::*;

    fn swish(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
        x.silu()?.broadcast_mul(scale)?.exp()
    }

    #[test]
    fn what_is_computed_again_has_the_same_gradients() {
        let inputs = [random("x", &[3, 7]), random("scale", &[7])];
        agrees(&inputs, |t| recomputed([&t[0], &t[1]], |[x, scale]| swish(x, scale)), |t| swish(&t[0], &t[1]));
        agrees(&inputs[..1], |t| recomputed([&t[0]], |[x]| x.sqr()), |t| t[0].sqr());
    }

    #[test]
    fn a_part_of_a_tensor_stays_that_part() {
        let (x, whole) = (random("x", &[2, 3]), random("y", &[4, 3]));
        let part = whole.narrow(0, 2, 2).unwrap().detach();
        let y = reversible([&x], part.clone(), |_, dy| Ok([Some(dy.clone())])).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), part.to_vec2::<f32>().unwrap());
        assert!(y.backward().unwrap().get(&x).is_some());
    }

    #[test]
    fn without_a_graph_nothing_is_kept() {
        let x = random("x", &[2, 3]).detach();
        assert!(!recomputed([&x], |[x]| x.sqr()).unwrap().track_op());
    }
}
