//! A convolution with its norm, for a few images at a time.

use candle_core::{Result, bail};

use super::super::conv::dense::{self, Strided, Weights};
use super::super::conv::geometry::Geometry;
use super::super::group_norm::kernels::{Affine, Apply, Backward, Statistics};
use super::super::{GroupNorm, simd};
use super::ConvNorm;

/// A layer without its weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerSettings {
    pub(super) geometry: Geometry,
    norm: GroupNorm,
}

impl LayerSettings {
    /// For images `[n, height, width, channels]`.
    pub(super) fn new(images: (usize, usize, usize, usize), layer: &ConvNorm) -> Result<Self> {
        let [rows, columns, inputs, outputs] = layer.kernel;
        let geometry = Geometry::new(images, (rows, columns, inputs, outputs), layer.conv)?;
        if geometry.is_depthwise() {
            bail!("a convolution of {} groups in a chain: only dense ones", layer.conv.groups);
        }
        layer.norm.check_channels(outputs)?;
        Ok(Self { geometry, norm: layer.norm })
    }

    /// Size of the result.
    pub(super) fn result(&self) -> (usize, usize, usize, usize) {
        let g = &self.geometry;
        (g.batch, g.out_height, g.out_width, g.outputs)
    }

    /// Numbers in weight, scale and bias.
    pub(super) fn lens(&self) -> [usize; 3] {
        let g = &self.geometry;
        [g.patch() * g.outputs, g.outputs, g.outputs]
    }
}

/// A layer with its weights.
pub(super) struct Layer<'a> {
    settings: LayerSettings,
    weight: &'a [f32],
    affine: Affine<'a>,
    /// The kernel, prepared for the forward pass.
    kernel: Option<Weights<'a>>,
    /// The kernel of the input gradient.
    turned: Turned,
}

/// The kernel of the input gradient, prepared.
enum Turned {
    /// The gradient is a convolution.
    Whole(Geometry, Weights<'static>),
    /// It is several.
    Strided(Strided),
    /// Not prepared, or it cannot be.
    Plain,
}

/// What a layer keeps of a few images: the convolved maps, and the statistics of each image's norm.
#[derive(Default)]
pub(super) struct Kept {
    convolved: Vec<f32>,
    statistics: Vec<f32>,
}

impl<'a> Layer<'a> {
    pub(super) fn new(settings: LayerSettings, [weight, scale, bias]: [&'a [f32]; 3]) -> Self {
        Self {
            settings,
            weight,
            affine: Affine { settings: settings.norm, scale, bias },
            kernel: None,
            turned: Turned::Plain,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.settings.lens().iter().sum()
    }

    /// Numbers in the kernel.
    pub(super) fn kernel_len(&self) -> usize {
        self.weight.len()
    }

    /// Prepares the forward pass.
    pub(super) fn prepare(&mut self) {
        self.kernel = Some(Weights::new(&self.settings.geometry, self.weight));
    }

    /// Prepares the input gradient.
    pub(super) fn turn(&mut self) {
        let g = &self.settings.geometry;
        let turned = dense::turned(g, self.weight);
        self.turned = match g.reversed() {
            Some(reversed) => Turned::Whole(reversed, Weights::new(&reversed, turned)),
            None => Strided::new(g, &turned).map_or(Turned::Plain, Turned::Strided),
        };
    }

    /// For the images in `x`.
    fn geometry(&self, x: &[f32]) -> Geometry {
        let g = self.settings.geometry;
        Geometry { batch: x.len() / g.image(), ..g }
    }

    /// Numbers in an image of the result.
    fn out_image(&self) -> usize {
        self.settings.geometry.out_height * self.settings.geometry.out_row()
    }

    /// Convolves images; what is kept of them is overwritten.
    pub(super) fn forward(&self, x: &[f32], kept: &mut Kept, buffer: &mut Vec<f32>) {
        let g = self.geometry(x);
        kept.convolved.resize(g.out_rows() * g.out_row(), 0.0);
        kept.statistics.resize(g.batch * 2 * g.outputs, 0.0);
        match &self.kernel {
            Some(kernel) => dense::forward_here(&g, x, kernel, &mut kept.convolved, buffer),
            None => dense::forward_here(&g, x, &Weights::new(&g, self.weight), &mut kept.convolved, buffer),
        }
        let images = kept.convolved.chunks_exact(self.out_image()).zip(kept.statistics.chunks_exact_mut(2 * g.outputs));
        for (x, statistics) in images {
            simd::dispatch_kernel(Statistics { settings: self.affine.settings, x, statistics });
        }
    }

    /// Numbers in the result.
    pub(super) fn out_len(&self, kept: &Kept) -> usize {
        kept.convolved.len()
    }

    /// Writes the result.
    pub(super) fn normalise(&self, kept: &Kept, out: &mut [f32]) {
        let images = kept.convolved.chunks_exact(self.out_image()).zip(out.chunks_exact_mut(self.out_image()));
        for ((x, out), statistics) in images.zip(kept.statistics.chunks_exact(2 * self.affine.scale.len())) {
            simd::dispatch_kernel(Apply { affine: self.affine, x, statistics, out });
        }
    }

    /// Replaces the gradient of the result by that of the convolved maps; those of scale and bias are added to `affine_grad`.
    pub(super) fn norm_back(&self, kept: &Kept, gradient: &mut [f32], affine_grad: &mut [f32]) {
        let maps = kept.convolved.chunks_exact(self.out_image()).zip(gradient.chunks_exact_mut(self.out_image()));
        let statistics = kept.statistics.chunks_exact(2 * self.affine.scale.len());
        for ((x, gradient), statistics) in maps.zip(statistics) {
            simd::dispatch_kernel(Backward { affine: self.affine, x, statistics, gradient, affine_grad });
        }
    }

    /// Adds the kernel's gradient to `dw`.
    pub(super) fn add_weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32], buffer: &mut Vec<f32>) {
        dense::add_weight_gradient(&self.geometry(x), x, (0, dy), dw, buffer);
    }

    /// Numbers of the input of which a gradient of the convolved maps is.
    pub(super) fn input_len(&self, dy: &[f32]) -> usize {
        dy.len() / self.out_image() * self.settings.geometry.image()
    }

    /// Writes the gradient of the layer's input from that of the convolved maps.
    pub(super) fn input_gradient(&self, dy: &[f32], dx: &mut [f32], buffer: &mut Vec<f32>) {
        let batch = dy.len() / self.out_image();
        let g = Geometry { batch, ..self.settings.geometry };
        match &self.turned {
            Turned::Whole(reversed, turned) => {
                dense::forward_here(&Geometry { batch, ..*reversed }, dy, turned, dx, buffer);
            }
            Turned::Strided(strided) => {
                dx.fill(0.0);
                strided.input_gradient(&g, dy, dx, buffer);
            }
            Turned::Plain => {
                dx.fill(0.0);
                dense::scatter(&g, self.weight, dy, dx, buffer);
            }
        }
    }
}
