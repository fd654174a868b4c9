//! The objective written down plainly in f64, pair by pair.

use drifting_train::drift::{
    Coupling, DriftSettings, Kernel, Reduction, ScaleScope, TemperatureAggregation, WeightPlacement,
};

use crate::support::Case;

type Matrix = Vec<Vec<f64>>;

/// What the objective should say about a case.
pub(crate) struct Expected {
    pub(crate) gradient: Vec<f64>,
    pub(crate) loss: f64,
    /// S of each group.
    pub(crate) scale: Vec<f64>,
    /// m of each temperature, of each group.
    pub(crate) norms: Matrix,
    /// s of each group.
    pub(crate) feature: Vec<f64>,
    /// F in the layout of the gradient.
    pub(crate) force: Vec<f64>,
}

/// One problem: x, targets, and which of them are what.
struct Problem {
    x: Matrix,
    y: Matrix,
    weights: Vec<f64>,
    own: usize,
    negatives: usize,
}

fn problem(case: &Case, group: usize, location: usize) -> Problem {
    let shape = case.shape;
    let vectors = |set: &[f32], images: usize| -> Matrix {
        let start = |image| ((group * images + image) * shape.locations + location) * shape.dim;
        (0..images).map(|image| set[start(image)..][..shape.dim].iter().map(|&v| f64::from(v)).collect()).collect()
    };
    let x = vectors(&case.generated, shape.generated);
    let unconditional = vectors(&case.unconditional, shape.unconditional);
    let positives = vectors(&case.positives, shape.positives);
    let mut weights = vec![1.0; shape.generated];
    weights.extend(vec![f64::from(case.weight[group]); shape.unconditional]);
    weights.extend(vec![1.0; shape.positives]);
    let y = [x.clone(), unconditional, positives].concat();
    Problem { x, y, weights, own: shape.generated, negatives: shape.generated + shape.unconditional }
}

fn distance(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().max(1e-8).sqrt()
}

fn softmax(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return vec![0.0; values.len()];
    }
    let total: f64 = values.iter().map(|value| (value - largest).exp()).sum();
    values.iter().map(|value| (value - largest).exp() / total).collect()
}

fn transposed(matrix: &Matrix) -> Matrix {
    (0..matrix[0].len()).map(|y| matrix.iter().map(|row| row[y]).collect()).collect()
}

fn balanced(mut plan: Matrix, rounds: usize) -> Matrix {
    let share = plan.len() as f64 / plan[0].len() as f64;
    for _ in 0..rounds {
        let columns: Vec<f64> = transposed(&plan).iter().map(|column| column.iter().sum()).collect();
        for row in &mut plan {
            row.iter_mut().zip(&columns).for_each(|(w, sum)| *w = if *sum > 0.0 { *w * share / sum } else { 0.0 });
            let total: f64 = row.iter().sum();
            row.iter_mut().for_each(|w| *w /= total);
        }
    }
    plan
}

/// Kernel with its normalisations over the given targets, floor included.
fn normalized(logits: &Matrix, settings: &DriftSettings) -> Matrix {
    let floor = f64::from(settings.floor);
    let rows: Matrix = logits.iter().map(|row| softmax(row)).collect();
    let columns = transposed(&transposed(logits).iter().map(|column| softmax(column)).collect());
    let kernel: Matrix = logits.iter().map(|row| row.iter().map(|logit| logit.exp()).collect()).collect();
    let balanced = balanced(kernel.clone(), settings.sinkhorn_iterations);
    let pick = |i: usize, y: usize| match (settings.normalize_over_y, settings.normalize_over_x) {
        (true, true) if settings.sinkhorn_iterations > 0 => balanced[i][y].max(floor.sqrt()),
        (true, true) => (rows[i][y] * columns[i][y]).max(floor).sqrt(),
        (true, false) => rows[i][y].max(floor.sqrt()),
        (false, true) => columns[i][y].max(floor.sqrt()),
        (false, false) if settings.coupling == Coupling::Mmd => kernel[i][y],
        (false, false) => kernel[i][y].max(floor.sqrt()),
    };
    (0..logits.len()).map(|i| (0..logits[i].len()).map(|y| pick(i, y)).collect()).collect()
}

fn affinities(problem: &Problem, distances: &Matrix, tau: f64, settings: &DriftSettings) -> Matrix {
    let in_logits = settings.weight_placement == WeightPlacement::Logits;
    let logit = |y: usize, d: f64| {
        let kernel = match settings.kernel {
            Kernel::Exponential => -d / tau,
            Kernel::Gaussian => -d * d / (2.0 * tau * tau),
        };
        if in_logits { kernel + problem.weights[y].ln() } else { kernel }
    };
    let logits: Matrix =
        distances.iter().map(|row| row.iter().enumerate().map(|(y, &d)| logit(y, d)).collect()).collect();
    let mut result = if settings.coupling == Coupling::Split {
        let part = |from: usize, to: usize| logits.iter().map(|row| row[from..to].to_vec()).collect::<Matrix>();
        let negative = normalized(&part(0, problem.negatives), settings);
        let positive = normalized(&part(problem.negatives, problem.y.len()), settings);
        negative.into_iter().zip(positive).map(|(negative, positive)| [negative, positive].concat()).collect()
    } else {
        normalized(&logits, settings)
    };
    for row in &mut result {
        for (affinity, &weight) in row.iter_mut().zip(&problem.weights) {
            *affinity *= if in_logits { f64::from(weight > 0.0) } else { weight };
        }
    }
    result
}

/// V of one problem at one temperature, before the division by s.
fn drift(problem: &Problem, distances: &Matrix, tau: f64, settings: &DriftSettings) -> Matrix {
    let affinities = affinities(problem, distances, tau, settings);
    let (pull, push) = (f64::from(settings.attraction), f64::from(settings.repulsion));
    let share = |mass: f64| if mass > 0.0 { 1.0 / mass } else { 0.0 };
    let mut result = Matrix::new();
    for (i, (x, row)) in problem.x.iter().zip(&affinities).enumerate() {
        let negative: f64 = row[..problem.negatives].iter().sum();
        let positive: f64 = row[problem.negatives..].iter().sum();
        let masked = f64::from(settings.mask_self_negatives);
        let present: f64 = problem.weights[..problem.negatives].iter().sum::<f64>() - masked;
        let mut drift = vec![0.0; x.len()];
        for (y, target) in problem.y.iter().enumerate() {
            let is_negative = y < problem.negatives;
            let slope = match settings.kernel {
                _ if i == y => 0.0,
                Kernel::Exponential => row[y] / (tau * distances[i][y]),
                Kernel::Gaussian => row[y] / (tau * tau),
            };
            let coefficient = match (settings.coupling, is_negative) {
                (Coupling::Joint, true) => -push * row[y] * positive,
                (Coupling::Joint, false) => pull * row[y] * negative,
                (Coupling::Mmd, true) => -push * slope * share(present),
                (Coupling::Mmd, false) => pull * slope / (problem.y.len() - problem.negatives) as f64,
                (_, true) => -push * row[y] * share(negative),
                (_, false) => pull * row[y] * share(positive),
            };
            for (drift, (target, x)) in drift.iter_mut().zip(target.iter().zip(x)) {
                *drift += coefficient * (target - x);
            }
        }
        result.push(drift);
    }
    result
}

fn pooled(values: &[f64], locations: usize, scope: ScaleScope) -> Vec<f64> {
    let own: Vec<f64> = values.chunks(locations).map(|group| group.iter().sum::<f64>() / locations as f64).collect();
    match scope {
        ScaleScope::Group => own,
        ScaleScope::Batch | ScaleScope::Ema => vec![own.iter().sum::<f64>() / own.len() as f64; own.len()],
    }
}

/// The whole objective.
pub(crate) fn objective(case: &Case, settings: &DriftSettings) -> Expected {
    let shape = case.shape;
    let problems: Vec<Problem> =
        (0..shape.problems()).map(|b| problem(case, b / shape.locations, b % shape.locations)).collect();
    let distances: Vec<Matrix> =
        problems.iter().map(|p| p.x.iter().map(|x| p.y.iter().map(|y| distance(x, y)).collect()).collect()).collect();
    let weighted = |(p, d): (&Problem, &Matrix)| {
        let sum: f64 = d.iter().map(|row| row.iter().zip(&p.weights).map(|(d, w)| d * w).sum::<f64>()).sum();
        sum / (p.x.len() * p.y.len()) as f64
    };
    let weighted: Vec<f64> = problems.iter().zip(&distances).map(weighted).collect();
    let weights: Vec<f64> = problems.iter().map(|p| p.weights.iter().sum::<f64>() / p.y.len() as f64).collect();
    let pool = |values: &[f64]| pooled(values, shape.locations, settings.scale_scope);
    let scale: Vec<f64> = pool(&weighted).iter().zip(pool(&weights)).map(|(d, w)| d / w).collect();
    let root = (shape.dim as f64).sqrt();
    let feature: Vec<f64> =
        scale.iter().map(|s| if settings.normalize_features { (s / root).max(1e-3) } else { 1.0 }).collect();
    let unit = |group: usize| match (settings.normalize_features, settings.scale_temperature_by_sqrt_channels) {
        (true, true) => scale[group].max(1e-3),
        (true, false) => feature[group],
        (false, true) => root,
        (false, false) => 1.0,
    };

    let mut force = vec![0.0; case.generated.len()];
    let (mut norms, mut apart) = (Matrix::new(), 0.0);
    for &tau in &settings.temperatures {
        let mut drifts = Vec::new();
        for (b, (p, d)) in problems.iter().zip(&distances).enumerate() {
            let mut scaled: Matrix =
                d.iter().map(|row| row.iter().map(|d| d / unit(b / shape.locations)).collect()).collect();
            for (i, row) in scaled.iter_mut().enumerate().take(p.own) {
                row[i] += if settings.mask_self_negatives { f64::from(settings.mask) } else { 0.0 };
            }
            let mut drift = drift(p, &scaled, f64::from(tau), settings);
            drift.iter_mut().flatten().for_each(|v| *v /= feature[b / shape.locations]);
            drifts.push(drift);
        }
        let square =
            |drift: &Matrix| drift.iter().flatten().map(|v| v * v).sum::<f64>() / (shape.generated * shape.dim) as f64;
        let m = pool(&drifts.iter().map(square).collect::<Vec<_>>());
        for (b, drift) in drifts.iter().enumerate() {
            let (group, location) = (b / shape.locations, b % shape.locations);
            let divisor = if settings.normalize_drift { m[group].max(1e-8).sqrt() } else { 1.0 };
            for (i, v) in drift.iter().enumerate() {
                let start = ((group * shape.generated + i) * shape.locations + location) * shape.dim;
                for (force, v) in force[start..].iter_mut().zip(v) {
                    *force += v / divisor;
                    apart += (v / divisor) * (v / divisor);
                }
            }
        }
        norms.push(m);
    }
    let count = force.len() as f64;
    let slots = if settings.reduction == Reduction::Sum { shape.locations as f64 } else { 1.0 };
    let square = match settings.temperature_aggregation {
        TemperatureAggregation::SumDrifts => force.iter().map(|f| f * f).sum(),
        TemperatureAggregation::SumLosses => apart,
    };
    let per_group = force.len() / shape.groups;
    let gradient = force.iter().enumerate().map(|(i, f)| -2.0 * slots * f / (feature[i / per_group] * count)).collect();
    Expected { gradient, loss: slots * square / count, scale, norms, feature, force }
}
