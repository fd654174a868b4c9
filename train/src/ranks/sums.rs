//! Sums over all ranks that are under way while a rank goes on.

use std::fmt::Debug;

use candle_core::{Device, Result, Shape, Tensor, bail};

use super::Ranks;

/// Numbers that are added up at once.
pub(super) const BUCKET: usize = 1 << 22;

/// Sums of tensors over all ranks, which begin with the same ones in the same order. From the first one on nothing else may be
/// asked of the ranks until they are finished.
pub trait Sums: Debug + Send {
    /// Begins to add up a tensor.
    ///
    /// # Errors
    /// The tensor's device fails.
    fn begin(&mut self, tensor: Tensor) -> Result<()>;

    /// Waits for all sums, in the order in which they were begun.
    ///
    /// # Errors
    /// The tensors' device fails, or other ranks do.
    fn finish(&mut self) -> Result<Vec<Tensor>>;
}

/// Sums of one rank.
#[derive(Debug, Default)]
pub(super) struct Same(Vec<Tensor>);

impl Sums for Same {
    fn begin(&mut self, tensor: Tensor) -> Result<()> {
        self.0.push(tensor);
        Ok(())
    }

    fn finish(&mut self) -> Result<Vec<Tensor>> {
        Ok(std::mem::take(&mut self.0))
    }
}

/// Tensors that are added up over all ranks as they come, several small ones or a large one at once.
#[derive(Debug)]
pub(crate) struct Buckets {
    sums: Box<dyn Sums>,
    bucket: Vec<Tensor>,
    /// Of all tensors, in their order.
    shapes: Vec<Shape>,
}

impl Buckets {
    /// Of tensors on `device`.
    pub(crate) fn new(ranks: &dyn Ranks, device: &Device) -> Result<Self> {
        Ok(Self { sums: ranks.sums(device)?, bucket: Vec::new(), shapes: Vec::new() })
    }

    /// Adds up `tensor`, soon.
    pub(crate) fn add(&mut self, tensor: &Tensor) -> Result<()> {
        self.shapes.push(tensor.shape().clone());
        let waiting: usize = self.bucket.iter().map(Tensor::elem_count).sum();
        if waiting + tensor.elem_count() > BUCKET {
            self.flush()?;
        }
        self.bucket.push(tensor.flatten_all()?);
        if waiting + tensor.elem_count() >= BUCKET { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let bucket = std::mem::take(&mut self.bucket);
        match &bucket[..] {
            [] => Ok(()),
            [one] => self.sums.begin(one.clone()),
            _ => self.sums.begin(Tensor::cat(&bucket, 0)?),
        }
    }

    /// The sums of all tensors, in their order.
    pub(crate) fn finish(&mut self) -> Result<Vec<Tensor>> {
        self.flush()?;
        let mut sums = self.sums.finish()?.into_iter();
        let (mut sum, mut first) = (None, 0);
        let part = |shape: Shape| {
            let len = shape.elem_count();
            if sum.as_ref().is_none_or(|sum: &Tensor| first == sum.elem_count()) {
                (sum, first) = (sums.next(), 0);
            }
            let Some(sum) = &sum else { bail!("a sum of all ranks is missing") };
            first += len;
            sum.narrow(0, first - len, len)?.reshape(shape)
        };
        std::mem::take(&mut self.shapes).into_iter().map(part).collect()
    }
}
