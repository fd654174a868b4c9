use crate::support::Case;
use drifting_train::drift::{DriftSettings, KeyShape};
#[test]
fn timing() {
    for (groups, locations, dim, generated) in [(10, 16, 49, 16), (10, 1, 784, 16), (10, 49, 16, 16), (10, 16, 49, 32)]
    {
        let shape = KeyShape { groups, locations, generated, positives: 64, unconditional: 16, dim };
        let case = Case::random(1, shape);
        for tau in [vec![], vec![0.2], vec![0.2, 0.05, 0.02]] {
            let settings = DriftSettings {
                temperatures: if tau.is_empty() { vec![0.5] } else { tau },
                ..DriftSettings::default()
            };
            let mut best = f64::MAX;
            for _ in 0..60 {
                let start = std::time::Instant::now();
                std::hint::black_box(case.outcome(&settings).unwrap());
                best = best.min(start.elapsed().as_secs_f64());
            }
            println!("{shape:?} {} temps: {:.3} ms", settings.temperatures.len(), best * 1e3);
        }
    }
}
