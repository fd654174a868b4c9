//! ConvNeXt-V2 once more, in plain loops over f64 and with the published names: what the network is held against.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::ConvNextConfig;
use crate::testing::flat;

/// A map of `[height, width, channels]`.
#[derive(Clone, Debug)]
pub(super) struct Map {
    pub(super) sides: (usize, usize),
    pub(super) channels: usize,
    pub(super) values: Vec<f64>,
}

impl Map {
    fn new(sides: (usize, usize), channels: usize, f: impl Fn(usize, usize, usize) -> f64) -> Self {
        let places = (0..sides.0).flat_map(|row| (0..sides.1).map(move |column| (row, column)));
        let values = places.flat_map(|(row, column)| (0..channels).map(move |c| (row, column, c)));
        let values = values.map(|(row, column, c)| f(row, column, c)).collect();
        Self { sides, channels, values }
    }

    fn at(&self, row: usize, column: usize, channel: usize) -> f64 {
        self.values[(row * self.sides.1 + column) * self.channels + channel]
    }

    fn pixels(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.channels)
    }

    /// Every pixel by `f`.
    fn each_pixel(&self, f: impl FnMut(&[f64]) -> Vec<f64>) -> Self {
        let values: Vec<f64> = self.pixels().flat_map(f).collect();
        Self { sides: self.sides, channels: values.len() / (self.sides.0 * self.sides.1), values }
    }

    /// Over space, of f(value) per channel.
    fn mean(&self, f: impl Fn(f64, usize) -> f64) -> Vec<f64> {
        let count = (self.sides.0 * self.sides.1) as f64;
        (0..self.channels).map(|c| self.pixels().map(|pixel| f(pixel[c], c)).sum::<f64>() / count).collect()
    }
}

/// Named weights in PyTorch's layouts.
pub(super) struct Weights(pub(super) BTreeMap<String, Tensor>);

impl Weights {
    fn get(&self, name: &str) -> Vec<f64> {
        flat(&self.0[name]).into_iter().map(f64::from).collect()
    }

    fn layer_norm(&self, name: &str, pixel: &[f64]) -> Vec<f64> {
        let (scale, shift) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let (mean, variance) = moments(pixel);
        let normal = pixel.iter().map(|x| (x - mean) / (variance + 1e-6).sqrt());
        normal.zip(scale.iter().zip(&shift)).map(|(x, (scale, shift))| x * scale + shift).collect()
    }

    fn linear(&self, name: &str, pixel: &[f64]) -> Vec<f64> {
        let (weight, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let rows = weight.chunks_exact(pixel.len()).zip(&bias);
        rows.map(|(row, bias)| row.iter().zip(pixel).map(|(w, x)| w * x).sum::<f64>() + bias).collect()
    }

    /// Squares of `side` side by side.
    fn patches(&self, name: &str, x: &Map, side: usize) -> Map {
        let (weight, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let inner = x.channels;
        Map::new((x.sides.0 / side, x.sides.1 / side), bias.len(), |row, column, out| {
            let mut sum = bias[out];
            for i in 0..inner * side * side {
                let (c, dy, dx) = (i / side / side, i / side % side, i % side);
                sum += weight[out * inner * side * side + i] * x.at(row * side + dy, column * side + dx, c);
            }
            sum
        })
    }

    fn depthwise(&self, name: &str, x: &Map) -> Map {
        let (weight, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        Map::new(x.sides, x.channels, |row, column, c| {
            let mut sum = bias[c];
            for (dy, dx) in (0..7).flat_map(|dy| (0..7).map(move |dx| (dy, dx))) {
                let (Some(y), Some(z)) = ((row + dy).checked_sub(3), (column + dx).checked_sub(3)) else { continue };
                if y < x.sides.0 && z < x.sides.1 {
                    sum += weight[c * 49 + dy * 7 + dx] * x.at(y, z, c);
                }
            }
            sum
        })
    }

    fn block(&self, name: &str, x: &Map) -> Map {
        let part = |part: &str| format!("{name}.{part}");
        let y = self.depthwise(&part("dwconv"), x).each_pixel(|pixel| {
            let pixel = self.layer_norm(&part("layernorm"), pixel);
            self.linear(&part("pwconv1"), &pixel).into_iter().map(gelu).collect()
        });
        let places = (y.sides.0 * y.sides.1) as f64;
        let response: Vec<f64> =
            y.mean(|value, _| value * value).iter().map(|square| (square * places + 1e-6).sqrt()).collect();
        let mean = response.iter().sum::<f64>() / response.len() as f64;
        let (scale, shift) = (self.get(&part("grn.weight")), self.get(&part("grn.bias")));
        let y = y.each_pixel(|pixel| {
            let grown = pixel
                .iter()
                .enumerate()
                .map(|(c, value)| scale[c] * (value * (response[c] / (mean + 1e-6))) + shift[c] + value);
            self.linear(&part("pwconv2"), &grown.collect::<Vec<_>>())
        });
        let values = x.values.iter().zip(&y.values).map(|(x, y)| x + y).collect();
        Map { values, ..y }
    }

    /// The maps of one image `[3, side, side]`, in the order of the network's.
    pub(super) fn encode(&self, config: &ConvNextConfig, image: &[f32], side: usize) -> Vec<Map> {
        let mean = [0.485, 0.456, 0.406];
        let deviation = [0.229, 0.224, 0.225];
        let image = Map::new((side, side), 3, |row, column, c| {
            ((f64::from(image[(c * side + row) * side + column]) + 1.0) / 2.0 - mean[c]) / deviation[c]
        });
        let mut y = self.patches("embeddings.patch_embeddings", &resized(&image, config.image_size), 4);
        y = y.each_pixel(|pixel| self.layer_norm("embeddings.layernorm", pixel));
        let mut maps = Vec::new();
        for stage in 0..4 {
            let name = format!("encoder.stages.{stage}");
            if stage > 0 {
                let norm = format!("{name}.downsampling_layer.0");
                y = y.each_pixel(|pixel| self.layer_norm(&norm, pixel));
                y = self.patches(&format!("{name}.downsampling_layer.1"), &y, 2);
            }
            for layer in 0..config.depths[stage] {
                y = self.block(&format!("{name}.layers.{layer}"), &y);
            }
            maps.push(y.each_pixel(|pixel| {
                let (mean, variance) = moments(pixel);
                pixel.iter().map(|value| (value - mean) / (variance.sqrt() + 1e-3)).collect()
            }));
        }
        let z = &maps[3];
        let centre = z.mean(|value, _| value);
        let squares = z.mean(|value, c| (value - centre[c]).powi(2));
        let pooled = self.layer_norm("layernorm", &y.mean(|value, _| value));
        let deviations = squares.into_iter().map(|square| (square + 1e-6).sqrt()).collect();
        let vector = |values: Vec<f64>| Map { sides: (1, 1), channels: values.len(), values };
        maps.extend([vector(pooled), vector(deviations)]);
        maps
    }
}

fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count)
}

/// x Phi(x), the normal distribution's integral by Simpson's rule.
fn gelu(x: f64) -> f64 {
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let h = x / 200.0;
    let inner: f64 = (1..200).map(|i| if i % 2 == 1 { 4.0 } else { 2.0 } * density(f64::from(i) * h)).sum();
    x * (0.5 + h / 3.0 * (density(0.0) + inner + density(x)))
}

/// A smaller square: triangles as wide as the reduction, centred on the new pixels, cut off at the border.
fn resized(x: &Map, side: usize) -> Map {
    let scale = x.sides.0 as f64 / side as f64;
    let weights = |new: usize| {
        let centre = (new as f64 + 0.5) * scale;
        let weight = |old: usize| (1.0 - ((old as f64 + 0.5 - centre) / scale.max(1.0)).abs()).max(0.0);
        let weights: Vec<f64> = (0..x.sides.0).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect::<Vec<_>>()
    };
    Map::new((side, side), x.channels, |row, column, c| {
        let (down, across) = (weights(row), weights(column));
        let line = |y: usize| across.iter().enumerate().map(|(z, weight)| weight * x.at(y, z, c)).sum::<f64>();
        down.iter().enumerate().filter(|(_, weight)| **weight > 0.0).map(|(y, weight)| weight * line(y)).sum()
    })
}
