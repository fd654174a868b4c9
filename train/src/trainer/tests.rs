use super::*;
use crate::data::DataSource;

fn config() -> TrainConfig {
    let text = r#"
        name = "test"
        steps = 6
        data = { embedded = "fashion-mnist" }
        batch = { classes = 3, generated = 4, positives = 6, unconditional = 2 }
        features = { keys = ["global", "patch_7", "mean_4"] }
        schedule = { lr = 1e-3, warmup_steps = 2 }
        [generator]
        image = { channels = 1, height = 28, width = 28 }
        patch = 7
        hidden = 32
        depth = 1
        heads = 2
        classes = 10
        style_tokens = 2
        registers = 2
    "#;
    TrainConfig::parse(text, "test", &[]).unwrap()
}

fn state(trainer: &Trainer<'_>) -> BTreeMap<String, Tensor> {
    let averages = trainer.averages().iter().flat_map(Ema::state);
    trainer.optimizer_state().unwrap().into_iter().chain(averages).collect()
}

fn weights(trainer: &Trainer<'_>) -> Vec<Vec<f32>> {
    let flat = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    let state = state(trainer)
        .into_iter()
        .filter(|(name, _)| !["adamw.step", "run.step", "run.schedule_from"].contains(&name.as_str()));
    trainer.generator.params().tensors().into_iter().chain(state).map(|(_, tensor)| flat(tensor)).collect()
}

#[test]
fn a_restored_run_equals_the_straight_one_bit_for_bit() {
    let config = config();
    let (data, _) = config.data.open(config.generator.image).unwrap();
    let mut straight = Trainer::new(&config, &data).unwrap();
    for _ in 0..3 {
        straight.step().unwrap();
    }
    let (saved, state) = (straight.generator().params().tensors(), state(&straight));
    let copy = |tensors: &BTreeMap<String, Tensor>| {
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.copy().unwrap())).collect::<BTreeMap<_, _>>()
    };
    let (saved, state) = (copy(&saved), copy(&state));
    let mut resumed = Trainer::new(&config, &data).unwrap();
    resumed.restore(saved, &state).unwrap();
    assert_eq!(resumed.step_count(), 3);
    for _ in 0..3 {
        let (a, b) = (straight.step().unwrap(), resumed.step().unwrap());
        assert_eq!((a.step, a.loss, a.gradient_norm), (b.step, b.loss, b.gradient_norm));
    }
    assert_eq!(weights(&straight), weights(&resumed));
}

#[test]
fn samples_come_closer_to_the_data() {
    let config = TrainConfig { steps: 30, ..config() };
    let (data, _) = config.data.open(config.generator.image).unwrap();
    let mut trainer = Trainer::new(&config, &data).unwrap();
    let first = trainer.step().unwrap();
    let last = (1..30).map(|_| trainer.step().unwrap()).last().unwrap();
    // At step 0 every image is exactly 0, the middle grey.
    let scale = |report: &StepReport| report.keys["global"].scale;
    assert!(scale(&last) < 0.9 * scale(&first), "{} {}", scale(&first), scale(&last));
    assert!(last.gradient_norm.is_finite() && last.lr == 1e-3);
}

#[test]
fn data_that_do_not_fit_are_refused() {
    let config = config();
    let (data, _) = DataSource::Embedded(crate::data::Embedded::FashionMnist).open(config.generator.image).unwrap();
    let mut other = config.clone();
    other.generator.classes = 12;
    assert!(
        Trainer::new(&other, &data).unwrap_err().to_string().starts_with("generator.classes: 12, the data have 10")
    );
}
