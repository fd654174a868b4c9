//! Gradients of parameters that someone takes as soon as the way back has found them, while it goes on.

use std::fmt;
use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor, bail};

use super::storage::Values;

type Take = dyn Fn(&[Tensor], Tensor) -> Result<()> + Send + Sync;

/// Who takes gradients, which then go no further.
#[derive(Clone)]
pub struct Handover(Arc<Take>);

impl Handover {
    /// `take` is called with parameters and the gradient of all their numbers, one parameter after the other. It is called from the
    /// thread that goes backward, in an order that depends on the graph alone.
    pub fn new(take: impl Fn(&[Tensor], Tensor) -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    /// The numbers of `x`, which are those of `parameters` one after the other; nothing else may need the gradients of these.
    ///
    /// # Errors
    /// The device fails.
    pub fn of(&self, parameters: Vec<Tensor>, x: &Tensor) -> Result<Tensor> {
        let x = x.detach().contiguous()?;
        // Where the graph ends: the engine wants a gradient for everything before.
        match parameters.iter().find(|parameter| parameter.is_variable()).cloned() {
            Some(end) => end.apply_op1(Handed { x, parameters, take: Arc::clone(&self.0) }),
            None => Ok(x),
        }
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Handover")
    }
}

struct Handed {
    x: Tensor,
    parameters: Vec<Tensor>,
    take: Arc<Take>,
}

impl CustomOp1 for Handed {
    fn name(&self) -> &'static str {
        "handover"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(Values::of(&self.x)?.to_vec()), self.x.shape().clone()))
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        let (storage, layout) = self.x.storage_and_layout();
        match (&*storage, layout.start_offset()) {
            (Storage::Cuda(storage), 0) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("{} of a part of a tensor", self.name()),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        (self.take)(&self.parameters, gradient.clone())?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn gradients_are_taken_and_go_no_further() {
        let [a, b] = [1.0f32, 2.0].map(|first| Var::new(&[first, 3.0], &Device::Cpu).unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&taken);
        let handover = Handover::new(move |parameters, gradient| {
            let ids: Vec<_> = parameters.iter().map(Tensor::id).collect();
            seen.lock().unwrap().push((ids, gradient.to_vec1::<f32>()?));
            Ok(())
        });
        let parameters = || vec![a.as_tensor().clone(), b.as_tensor().clone()];
        let flat = Tensor::cat(&parameters(), 0).unwrap();
        let handed = handover.of(parameters(), &flat).unwrap();
        assert_eq!(handed.to_vec1::<f32>().unwrap(), [1.0, 3.0, 2.0, 3.0]);
        let store = handed.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(store.get(&a).is_none() && store.get(&b).is_none());
        assert_eq!(*taken.lock().unwrap(), [(vec![a.id(), b.id()], vec![2.0, 6.0, 4.0, 6.0])]);
        let constant = handover.of(vec![flat.detach()], &flat).unwrap();
        assert!(!constant.track_op(), "a constant has no gradient");
    }

    #[test]
    fn who_fails_ends_the_way_back() {
        let handover = Handover::new(|_, _| candle_core::bail!("no room"));
        let x = Var::new(&[1.0f32], &Device::Cpu).unwrap();
        let handed = handover.of(vec![x.as_tensor().clone()], &x).unwrap();
        let error = handed.sum_all().unwrap().backward().map(drop).unwrap_err().to_string();
        assert!(error.contains("no room"), "{error}");
    }
}
