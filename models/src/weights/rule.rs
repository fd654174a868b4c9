//! Weights that a rule gives, so that tests of large networks need no large files.

use candle_core::{Device, Tensor};

use crate::Result;

/// The tensor `name` of a flax tree (parts joined by `/`) by the rule of the golden data: a hash of name and position
/// gives u in [-1, 1); kernels (rank 2 and more) are u sqrt(6 / fan in), the fan in all dimensions but the last; names that
/// end in `scale` are 1 + 0.3 u; every other vector is 0.1 u.
///
/// # Errors
/// Only those of tensor operations.
pub fn by_rule(name: &str, shape: &[usize]) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let outputs = shape.last().copied().unwrap_or(1).max(1);
    let fan_in = (count / outputs).max(1) as f64;
    let value = |u: f64| match shape.len() {
        2.. => u * (6.0 / fan_in).sqrt(),
        _ if name.ends_with("scale") => 1.0 + 0.3 * u,
        _ => 0.1 * u,
    };
    let start = fnv1a(name);
    let values = (0..count as u32).map(|i| value(unit(start, i)) as f32).collect();
    Ok(Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu)?)
}

/// A number in [-1, 1) of a hash's start and a position (the finaliser of murmur3).
fn unit(start: u32, position: u32) -> f64 {
    let mut x = position.wrapping_mul(2_654_435_761).wrapping_add(start);
    x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    f64::from(x ^ (x >> 16)) / f64::from(1u32 << 31) - 1.0
}

fn fnv1a(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_tensor_has_its_range() {
        let range = |name: &str, shape: &[usize]| {
            let values = by_rule(name, shape).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let fold = |pick: fn(f32, f32) -> f32| values.iter().copied().fold(values[0], pick);
            (fold(f32::min), fold(f32::max))
        };
        let near = |(low, high): (f32, f32), (least, most): (f32, f32)| {
            let slack = (most - least) * 0.01;
            assert!(low >= least && low < least + slack && high <= most && high > most - slack, "{low} {high}");
        };
        near(range("a/kernel", &[3, 3, 6, 100]), (-1.0 / 3.0, 1.0 / 3.0));
        near(range("a/scale", &[1000]), (0.7, 1.3));
        near(range("a/bias", &[1000]), (-0.1, 0.1));
        assert_ne!(range("a/bias", &[7]), range("b/bias", &[7]));
    }
}
