//! Numbers of the authors' drift loss: two small cases by formula, and one drawn by NumPy.

use drifting_train::drift::{DriftSettings, KeyShape, Negatives, TemperatureAggregation, field, guidance_weight};

use crate::support::{Case, Outcome, assert_close};

/// z(off, b, i, k) = sin(1 + 0.7 (off + 17 b + 5 i + 3 k)), `[2, count, 3]`.
fn sines(offset: usize, count: usize) -> Vec<f32> {
    let value = |b: usize, i: usize, k: usize| (1.0 + 0.7 * (offset + 17 * b + 5 * i + 3 * k) as f64).sin() as f32;
    (0..2).flat_map(|b| (0..count).flat_map(move |i| (0..3).map(move |k| value(b, i, k)))).collect()
}

fn sine_case() -> Case {
    let shape = KeyShape { groups: 2, locations: 1, generated: 3, positives: 4, unconditional: 2, dim: 3 };
    Case {
        shape,
        generated: sines(0, 3),
        positives: sines(90, 4),
        unconditional: sines(40, 2),
        weight: [1.0, 2.5].map(|alpha| guidance_weight(alpha, 3, 2)).to_vec(),
    }
}

/// F, from which the gradient is -2 F / (s count).
fn force(outcome: &Outcome, dim: usize) -> Vec<f64> {
    let scale = outcome.scale / (dim as f64).sqrt();
    let factor = -0.5 * scale * outcome.gradient.len() as f64;
    outcome.gradient.iter().map(|&gradient| f64::from(gradient) * factor).collect()
}

#[test]
fn golden_sines() {
    let case = sine_case();
    assert_eq!(case.weight, [0.0, 1.5]);
    let settings = DriftSettings { temperatures: vec![0.02, 0.05, 0.2], ..DriftSettings::default() };
    let outcome = case.outcome(&settings).unwrap();
    assert_close(&[outcome.scale], &[1.377_778_027_2], 1e-6);
    let norms = [5.924_144_933e-5, 3.913_846_271e-4, 4.679_873_520e-2];
    for (found, expected) in outcome.drift_norms.iter().zip(norms) {
        assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
    }
    let expected = [
        [0.091_458_192_8, 0.334_268_021_4, -0.428_966_009_8],
        [-0.898_653_144_1, 0.392_197_801_2, 0.502_654_079_7],
        [0.765_730_717_4, -1.877_619_956_6, 1.130_087_524_6],
        [5.053_616_590_7, -5.538_911_978_7, 0.538_979_681_6],
        [-4.813_125_433_4, 3.310_051_827_5, 1.470_991_891_1],
        [2.550_287_736_8, -2.119_699_735_7, -0.410_043_427_8],
    ];
    assert_close(&force(&outcome, 3), expected.as_flattened(), 1e-5);
    assert_close(&[outcome.loss], &[6.159_323_320_1], 1e-5);
    assert_close(&outcome.gradient[..3], &[-0.012_775_016_8, -0.046_691_055_8, 0.059_918_612_0], 1e-6);
    assert_close(&outcome.gradient[9..12], &[-0.705_896_702_6, 0.773_683_486_2, -0.075_285_485_8], 1e-5);
}

#[test]
fn golden_plain_algorithm_2() {
    let (x, positives) = (sines(0, 3), sines(90, 4));
    let drift = field(&x[..9], &positives[..12], Negatives::Own, 3, &DriftSettings::plain(0.5)).unwrap();
    let expected = [
        [0.034_751_34, 0.144_036_330_6, -0.180_183_700_9],
        [-0.095_841_514_2, 0.045_826_232_8, 0.049_571_124],
        [0.128_220_941, -0.272_566_003_9, 0.146_986_829_6],
    ];
    assert_close(&drift, expected.as_flattened(), 1e-6);
}

#[test]
fn golden_normals_of_numpy() {
    let mut random = RandomState::new(0);
    let mut randn =
        |count: usize, offset: f64| (0..count).map(|_| (random.normal() + offset) as f32).collect::<Vec<_>>();
    let shape = KeyShape { groups: 4, locations: 1, generated: 8, positives: 16, unconditional: 4, dim: 16 };
    let (generated, positives, unconditional) =
        (randn(4 * 8 * 16, 0.0), randn(4 * 16 * 16, 1.0), randn(4 * 4 * 16, 0.0));
    assert_eq!(generated[..3], [1.764_052_4, 0.400_157_2, 0.978_738]);
    let case = Case { shape, generated, positives, unconditional, weight: vec![1.0; 4] };
    let settings = DriftSettings { temperatures: vec![0.02, 0.05, 0.2], ..DriftSettings::default() };
    let outcome = case.outcome(&settings).unwrap();
    assert_close(&[outcome.loss, outcome.scale], &[7.122_203_4, 6.075_566_3], 1e-5);
    assert_close(&outcome.drift_norms, &[0.008_657_083, 0.045_881_033, 0.279_355_198], 1e-6);
    let norm = outcome.gradient.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    assert_close(&[norm], &[0.155_301_5], 1e-6);
    let force = force(&outcome, 16);
    let losses: Vec<_> = force.chunks(8 * 16).map(|group| group.iter().map(|f| f * f).sum::<f64>() / 128.0).collect();
    assert_close(&losses, &[7.290_698_5, 4.594_150_4, 4.007_921_7, 12.596_043], 1e-5);

    // Each normalised drift has a mean square of 1, and the gradient knows nothing of how losses are added.
    let aggregation = TemperatureAggregation::SumLosses;
    let apart = case.outcome(&DriftSettings { temperature_aggregation: aggregation, ..settings }).unwrap();
    assert_close(&[apart.loss], &[3.0], 1e-6);
    assert_eq!(apart.gradient, outcome.gradient);
}

/// NumPy's legacy generator: MT19937 and the polar method.
struct RandomState {
    words: [u32; 624],
    next: usize,
    spare: Option<f64>,
}

impl RandomState {
    fn new(seed: u32) -> Self {
        let mut words = [seed; 624];
        for i in 1..624 {
            let last = words[i - 1];
            words[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Self { words, next: 624, spare: None }
    }

    fn word(&mut self) -> u32 {
        if self.next == 624 {
            for i in 0..624 {
                let y = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % 624] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.words[i] = self.words[(i + 397) % 624] ^ (y >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.words[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn uniform(&mut self) -> f64 {
        let (high, low) = (f64::from(self.word() >> 5), f64::from(self.word() >> 6));
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (a, b) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = a * a + b * b;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(factor * a);
                return factor * b;
            }
        }
    }
}
