//! Rotary and absolute positions as constant tables.

use std::sync::{Arc, OnceLock};

use candle_core::{Device, Result, Tensor};
use drifting_spec::{GeneratorConfig, Rope};

/// Base of the rotary frequencies.
const BASE: f64 = 10_000.0;

/// Cosines and sines of a rotary embedding: token t turns the pair (i, i + head_dim / 2) by the angle of (t, i).
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `[tokens, head_dim / 2]`.
    pub cos: Vec<f32>,
    /// `[tokens, head_dim / 2]`.
    pub sin: Vec<f32>,
    tables: Arc<OnceLock<[Tensor; 2]>>,
}

impl Rotation {
    /// The rotation of a generator's sequence; `None` when it has none.
    #[must_use]
    pub fn of(config: &GeneratorConfig) -> Option<Self> {
        let pairs = config.head_dim() / 2;
        let (_, columns) = config.grid();
        let angle = |token: usize, pair: usize| match config.rope {
            Rope::OneD => token as f64 * BASE.powf(-(pair as f64) / pairs as f64),
            Rope::TwoD => {
                let Some(patch) = token.checked_sub(config.registers) else { return 0.0 };
                let half = pairs / 2;
                let (position, pair) =
                    if pair < half { (patch / columns, pair) } else { (patch % columns, pair - half) };
                position as f64 * BASE.powf(-(pair as f64) / half as f64)
            }
            Rope::Off => 0.0,
        };
        if config.rope == Rope::Off {
            return None;
        }
        let table =
            |f: fn(f64) -> f64| (0..config.tokens() * pairs).map(|i| f(angle(i / pairs, i % pairs)) as f32).collect();
        Some(Self { cos: table(f64::cos), sin: table(f64::sin), tables: Arc::default() })
    }

    /// Cosines and sines as tensors `[tokens, head_dim / 2]`; they travel to a device once.
    pub(super) fn tables(&self, tokens: usize, device: &Device) -> Result<[Tensor; 2]> {
        if let Some(tables) = self.tables.get().filter(|[cos, _]| cos.device().same_device(device)) {
            return Ok(tables.clone());
        }
        let table = |values: &[f32]| Tensor::from_slice(values, (tokens, values.len() / tokens.max(1)), device);
        let tables = [table(&self.cos)?, table(&self.sin)?];
        // Another device's stay where they are.
        drop(self.tables.set(tables.clone()));
        Ok(tables)
    }
}

/// The initial absolute positions of patches, `[patches, hidden]` (method of MAE and DiT): the first half of a row
/// encodes the column, the second half the row, each as sines then cosines of hidden / 4 frequencies.
#[must_use]
pub fn sine_cosine(config: &GeneratorConfig) -> Vec<f32> {
    let (rows, columns) = config.grid();
    let quarter = config.hidden / 4;
    let encode = move |position: usize| {
        let angle = move |k: usize| position as f64 * BASE.powf(-(k as f64) / quarter as f64);
        (0..quarter).map(move |k| angle(k).sin() as f32).chain((0..quarter).map(move |k| angle(k).cos() as f32))
    };
    (0..rows).flat_map(|row| (0..columns).flat_map(move |column| encode(column).chain(encode(row)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drifting_spec::ImageShape;

    fn config(rope: Rope) -> GeneratorConfig {
        let image = ImageShape { channels: 1, height: 4, width: 6 };
        GeneratorConfig { registers: 2, rope, ..GeneratorConfig::new(image, 2, 16, 1, 2, 3) }
    }

    #[test]
    fn one_dimensional_angles_count_registers() {
        let rotation = Rotation::of(&config(Rope::OneD)).unwrap();
        assert_eq!(rotation.cos.len(), (2 + 6) * 4);
        // Token 3, pair 2 of 4: 3 * 10000^(-1/2).
        assert!((rotation.sin[3 * 4 + 2] - (0.03f32).sin()).abs() < 1e-7);
    }

    #[test]
    fn two_dimensional_angles_leave_registers_alone() {
        let rotation = Rotation::of(&config(Rope::TwoD)).unwrap();
        assert!(rotation.sin[..8].iter().all(|sin| *sin == 0.0));
        // Patch 5 is row 1, column 2.
        let token = &rotation.sin[(2 + 5) * 4..][..4];
        let expected = [1.0f32, 0.01, 2.0, 0.02].map(f32::sin);
        assert!(token.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-7), "{token:?}");
        assert!(Rotation::of(&config(Rope::Off)).is_none());
    }

    #[test]
    fn absolute_positions_encode_column_then_row() {
        let table = sine_cosine(&config(Rope::OneD));
        let patch = &table[5 * 16..][..16];
        assert!((patch[0] - 2.0f32.sin()).abs() < 1e-7 && (patch[4] - 2.0f32.cos()).abs() < 1e-7);
        assert!((patch[8] - 1.0f32.sin()).abs() < 1e-7 && (patch[12] - 1.0f32.cos()).abs() < 1e-7);
    }
}
