//! Statistics of maps by kernels: each in one pass, and back into a sum that is there already.

use candle_core::{Result, Tensor};
use drifting_kernels::{Argument, Launch, Output, launch, source};

use super::statistic::{EPSILON, MapShape, Statistic};

/// Threads of a block.
const THREADS: usize = 256;

impl Statistic {
    /// Features `[images, T, C]` of `map` `[images, height, width, C]`, or `None` of a statistic that is the map itself.
    pub(super) fn by_kernel(&self, shape: MapShape, map: &Tensor) -> Result<Option<Tensor>> {
        let Some(kind) = self.kind() else { return Ok(None) };
        let features = [map.dim(0)?, self.locations(shape), shape.channels];
        let map = map.contiguous()?;
        let [features] = launch(
            source::CELLS.kernel("cells_forward"),
            Launch::over(features.iter().product(), THREADS),
            map.device(),
            [Output::f32(&features)],
            &[&[Argument::Input(&map)][..], &self.arguments(shape, features[0], kind)].concat(),
        )?;
        Ok(Some(features))
    }

    /// Adds to `sum`, which has the shape of `map`, what `gradient` `[images, T, C]` of the features brings back; `false` of a
    /// statistic that is the map itself.
    pub(super) fn add_by_kernel(&self, shape: MapShape, map: &Tensor, gradient: &Tensor, sum: &Tensor) -> Result<bool> {
        let Some(kind) = self.kind() else { return Ok(false) };
        let (map, gradient) = (map.contiguous()?, gradient.contiguous()?);
        let [] = launch(
            source::CELLS.kernel("cells_back"),
            Launch::over(gradient.elem_count(), THREADS),
            map.device(),
            [],
            &[
                &[Argument::Changed(sum), Argument::Input(&map), Argument::Input(&gradient)][..],
                &self.arguments(shape, map.dim(0)?, kind),
            ]
            .concat(),
        )?;
        Ok(true)
    }

    /// The number that the kernel calls it by.
    fn kind(&self) -> Option<usize> {
        match self {
            Self::Raw => None,
            Self::Mean | Self::CellMeans(_) => Some(0),
            Self::MeanSquare => Some(1),
            Self::RootMeanSquare => Some(2),
            Self::Std | Self::CellStds(_) => Some(3),
        }
    }

    fn arguments(&self, shape: MapShape, images: usize, kind: usize) -> [Argument<'static>; 8] {
        let (rows, columns) = self.cell(shape);
        let count = Argument::Count;
        let MapShape { height, width, channels } = shape;
        [
            count(images),
            count(height),
            count(width),
            count(channels),
            count(rows),
            count(columns),
            count(kind),
            Argument::Number(EPSILON),
        ]
    }
}
