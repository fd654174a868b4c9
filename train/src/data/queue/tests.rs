use std::collections::BTreeSet;

use candle_core::DType;
use drifting_spec::ImageShape;

use super::*;
use crate::config::QueueCheckpoint;
use crate::data::sources::{Item, Source};
use crate::data::{Augment, Crop, Dataset, OnBad, Values};
use crate::ranks::together;

const SHAPE: ImageShape = ImageShape { channels: 1, height: 3, width: 4 };
const REQUEST: Request = Request { classes: 3, positives: 6, unconditional: 5 };

/// 60 images: 3 of class 0, 7 of class 1, 20 of class 2, 30 of class 3. An image's pixels are its number.
fn data() -> Arc<Dataset> {
    let pixels = (0..60u8).flat_map(|image| [image; 12]).collect();
    let labels = (0..60).map(class_of).collect();
    Arc::new(Dataset::new(SHAPE, pixels, labels, ["a", "b", "c", "d"].map(String::from).into()).unwrap())
}

fn class_of(image: u64) -> usize {
    [3, 10, 30].iter().filter(|&&end| image >= end).count()
}

fn number(pixels: &[f32]) -> u64 {
    ((pixels[0] + 1.0) * 127.5).round() as u64
}

fn feed(settings: QueueSettings, workers: usize, seed: u64) -> QueueFeed {
    let augment = Augment { crop: Crop::Random, flip: true, ..Augment::default() };
    let images = Images::new(data(), SHAPE, augment, seed).unwrap();
    QueueFeed::new(Arc::new(images), settings, LoaderSettings { workers: Some(workers), ahead: 3 }, seed)
}

fn settings() -> QueueSettings {
    QueueSettings { per_class: 8, global: 20, push_per_step: 10, loader_batch: 7, ..QueueSettings::default() }
}

/// Settings by chance, strict ones left out.
fn any_settings(seed: u64) -> QueueSettings {
    let mut stream = Stream::new(seed, "test.settings", 0);
    let mut between = |low: usize, high: usize| low + stream.below(high - low + 1);
    let warm_up = [WarmUp::None, WarmUp::Pushes(3), WarmUp::PerClass(1)][between(0, 2)];
    QueueSettings {
        per_class: between(1, 12),
        global: between(1, 30),
        push_per_step: between(1, 25),
        loader_batch: between(3, 20),
        warm_up,
        ..QueueSettings::default()
    }
}

#[test]
fn a_sample_never_comes_back_under_another_label() {
    for seed in 0..60 {
        let mut feed = feed(any_settings(seed), 0, seed);
        for step in 0..15 {
            if step == 8 {
                let state = feed.state();
                feed = self::feed(any_settings(seed), 0, seed);
                feed.restore(step, &state).unwrap();
            }
            let found = feed.next(step, REQUEST).unwrap();
            let (positives, others) = found.ids.split_at(3 * 6);
            for (group, &class) in found.classes.iter().enumerate() {
                assert!(
                    positives[group * 6..][..6].iter().all(|&id| class_of(id) == class),
                    "seed {seed}, step {step}"
                );
            }
            let pixels = found.positives.chunks(12).zip(positives).chain(found.unconditional.chunks(12).zip(others));
            pixels.for_each(|(pixels, &id)| assert_eq!(number(pixels), id));
        }
    }
}

#[test]
fn a_resumed_run_draws_what_the_straight_one_does() {
    for checkpoint in [QueueCheckpoint::Indices, QueueCheckpoint::Samples] {
        let settings = QueueSettings { checkpoint, warm_up: WarmUp::Pushes(4), ..settings() };
        let mut straight = feed(settings, 2, 5);
        let expected: Vec<StepData> = (0..12).map(|step| straight.next(step, REQUEST).unwrap()).collect();
        for stop in [0, 1, 7] {
            let mut first = feed(settings, 0, 5);
            let mut found: Vec<StepData> = (0..stop).map(|step| first.next(step, REQUEST).unwrap()).collect();
            let mut second = feed(settings, 3, 5);
            second.restore(stop, &first.state()).unwrap();
            found.extend((stop..12).map(|step| second.next(step, REQUEST).unwrap()));
            assert_eq!(found, expected, "stopped at {stop}");
            assert_eq!((second.counters(), second.batches), (straight.counters(), straight.batches));
            let (found, expected) = (second.state(), straight.state());
            assert!(found.keys().eq(expected.keys()));
            for (name, tensor) in found {
                let bits =
                    |tensor: &Tensor| tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>();
                assert_eq!(bits(&tensor).unwrap(), bits(&expected[&name]).unwrap(), "{name}");
            }
        }
    }
}

#[test]
fn strict_queues_name_what_is_missing() {
    let settings = QueueSettings { strict: true, warm_up: WarmUp::Pushes(20), ..settings() };
    let held: Vec<_> = {
        let mut feed = feed(settings, 0, 1);
        feed.next(0, Request { positives: 8, ..REQUEST }).unwrap();
        feed.classes.iter().map(|ring| ring.slots().len()).collect()
    };
    assert_eq!(held, [8; 4]);
    let cold = QueueSettings { warm_up: WarmUp::None, push_per_step: 7, ..settings };
    let error = feed(cold, 0, 1).next(0, REQUEST).unwrap_err().to_string();
    assert!(error.starts_with("the queue of class ") && error.contains("images, but a step asks for 6"), "{error}");
    assert!(error.contains("queue.strict"), "{error}");
    let mut warm = feed(QueueSettings { global: 4, ..settings }, 0, 1);
    let error = warm.next(0, REQUEST).unwrap_err().to_string();
    assert!(error.starts_with("the queue of all classes holds 4 images, but a step asks for 5"), "{error}");
}

#[test]
fn queues_that_hold_too_few_repeat_and_count_it() {
    let settings = QueueSettings { warm_up: WarmUp::None, push_per_step: 3, loader_batch: 3, ..settings() };
    let mut feed = feed(settings, 0, 2);
    let found = feed.next(0, REQUEST).unwrap();
    let distinct = |ids: &[u64]| ids.iter().collect::<BTreeSet<_>>().len() as u64;
    let groups = found.ids[..18].chunks(6).chain(found.ids[18..].chunks(5));
    let repeated: u64 = groups.map(|group| group.len() as u64 - distinct(group)).sum();
    let counters = feed.counters();
    // Six groups draw six or five images from queues of at most three.
    assert_eq!((counters.underflows, counters.repeated), (6, repeated));
    assert_eq!((counters.drawn, counters.pushed), (33, 3));
    let enough = Request { classes: 3, positives: 1, unconditional: 3 };
    feed.next(1, enough).unwrap();
    assert_eq!((feed.counters().underflows, feed.counters().repeated), (6, repeated));
}

#[test]
fn warm_up_fills_as_it_is_told() {
    let pushed = |warm_up| {
        let mut feed = feed(QueueSettings { warm_up, ..settings() }, 0, 3);
        feed.next(0, REQUEST).unwrap();
        (feed.counters().pushed, feed.classes.iter().map(|ring| ring.slots().len()).min().unwrap())
    };
    // A push is two batches of seven images: at least ten.
    assert_eq!(pushed(WarmUp::None).0, 14);
    assert_eq!(pushed(WarmUp::Pushes(5)).0, 14 * 6);
    let (images, fewest) = pushed(WarmUp::PerClass(5));
    assert!(fewest >= 5 && images > 14, "{images} {fewest}");
}

#[test]
fn classes_are_those_of_the_loader_or_uniform() {
    let count = |classes| {
        let mut feed = feed(QueueSettings { classes, ..settings() }, 0, 4);
        let mut counts = [0; 4];
        for step in 0..400 {
            for class in feed.next(step, Request { classes: 2, positives: 1, unconditional: 0 }).unwrap().classes {
                counts[class] += 1;
            }
        }
        counts
    };
    // 800 draws; the data hold 5 %, 12 %, 33 % and 50 %.
    let found = count(ClassSource::Loader);
    assert!(found[0] < 80 && found[3] > 340 && found.iter().sum::<i32>() == 800, "{found:?}");
    let found = count(ClassSource::Uniform);
    assert!(found.iter().all(|count| (140..260).contains(count)), "{found:?}");
    let mut feed = feed(settings(), 0, 4);
    let error = feed.next(0, Request { classes: 8, ..REQUEST }).unwrap_err().to_string();
    assert_eq!(error, "queue.loader_batch: 7 labels, but a step asks for 8 classes");
}

#[test]
fn an_empty_queue_is_an_error_even_when_not_strict() {
    let settings = QueueSettings {
        warm_up: WarmUp::None,
        classes: ClassSource::Uniform,
        push_per_step: 1,
        loader_batch: 1,
        ..settings()
    };
    let error = feed(settings, 0, 4).next(0, Request { classes: 4, ..REQUEST }).unwrap_err().to_string();
    assert!(error.contains("holds 0 images, but a step asks for 6: queue.warm_up"), "{error}");
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let mut full = feed(settings(), 0, 1);
    full.next(0, REQUEST).unwrap();
    let state = full.state();
    let problem = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut state = state.clone();
        change(&mut state);
        feed(settings(), 0, 1).restore(1, &state).unwrap_err().to_string()
    };
    let numbers = |numbers: Vec<i64>| Tensor::new(numbers, &candle_core::Device::Cpu).unwrap();
    let found = problem(&|state| drop(state.remove("queue.class.index")));
    assert!(found.starts_with("queue.class.index: is not in the checkpoint"), "{found}");
    let found = problem(&|state| drop(state.insert("queue.extra".into(), numbers(vec![1]))));
    assert!(found.starts_with("queue.extra: is not expected"), "{found}");
    let found = problem(&|state| {
        let mut indices = state["queue.class.index"].to_vec1::<i64>().unwrap();
        indices[0] = 59;
        state.insert("queue.class.index".into(), numbers(indices));
    });
    assert!(found.contains("puts an image of another class into the queue of class 0"), "{found}");
    let found = problem(&|state| {
        let length = state["queue.class.index"].elem_count();
        state.insert("queue.class.index".into(), numbers(vec![77; length]));
    });
    assert!(found.contains("names an image that the data do not have"), "{found}");
    for (name, wrong) in [
        ("queue.class.held", vec![100, 0, 0, 0]),
        ("queue.class.held", vec![0; 3]),
        ("queue.class.cursor", vec![-1, 0, 0, 0]),
        ("queue.global.cursor", vec![33]),
        ("queue.counters", vec![1]),
        ("queue.batches", vec![-1]),
    ] {
        let found = problem(&|state| drop(state.insert(name.into(), numbers(wrong.clone()))));
        assert!(found.starts_with(name), "{name}: {found}");
    }
}

/// Pictures of which number 40 cannot be read.
#[derive(Debug)]
struct Damaged(Arc<Dataset>);

impl Source for Damaged {
    fn classes(&self) -> &[String] {
        Source::classes(self.0.as_ref())
    }
    fn len(&self) -> usize {
        Source::len(self.0.as_ref())
    }
    fn label(&self, index: usize) -> usize {
        self.0.label(index)
    }
    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }
    fn shape(&self) -> Option<ImageShape> {
        Some(self.0.shape())
    }
    fn read(&self, index: usize, version: usize) -> Result<Item> {
        if index == 40 { Err(DataError::image(self.name(index), "is damaged")) } else { self.0.read(index, version) }
    }
    fn sha256(&self) -> &str {
        self.0.sha256()
    }
}

fn damaged(settings: QueueSettings) -> QueueFeed {
    let augment = Augment { crop: Crop::Random, flip: true, ..Augment::default() };
    let images = Images::new(Arc::new(Damaged(data())), SHAPE, augment, 5).unwrap().on_bad(OnBad::Skip);
    QueueFeed::new(Arc::new(images), settings, LoaderSettings { workers: Some(1), ahead: 2 }, 5)
}

#[test]
fn processes_receive_together_what_one_would_and_hold_each_image_once() {
    for checkpoint in [QueueCheckpoint::Indices, QueueCheckpoint::Samples] {
        let settings = QueueSettings { checkpoint, warm_up: WarmUp::Pushes(6), ..settings() };
        let mut alone = damaged(settings);
        let expected: Vec<StepData> = (0..6).map(|step| alone.next(step, REQUEST).unwrap()).collect();
        assert!(alone.counters().replaced > 0, "the damaged image is drawn");
        // Two processes, and from step 3 on three, on what the second of the two would save.
        let begun = together(2, |ranks| {
            let mut feed = damaged(settings);
            let steps: Vec<StepData> = (0..3).map(|step| feed.next_among(step, REQUEST, ranks).unwrap()).collect();
            (steps, feed.state())
        });
        let ended = together(3, |ranks| {
            let mut feed = damaged(settings);
            feed.restore_among(3, &begun[1].1, ranks).unwrap();
            let steps: Vec<StepData> = (3..6).map(|step| feed.next_among(step, REQUEST, ranks).unwrap()).collect();
            let held = |ring: &Ring| ring.slots().iter().filter(|image| image.values.is_some()).count();
            (steps, feed.classes.iter().map(held).collect::<Vec<_>>(), feed.counters())
        });
        let parts = |step: usize| -> Vec<&StepData> {
            match step {
                0..3 => begun.iter().map(|(steps, _)| &steps[step]).collect(),
                _ => ended.iter().map(|(steps, ..)| &steps[step - 3]).collect(),
            }
        };
        for (step, expected) in expected.iter().enumerate() {
            let parts = parts(step);
            let joined =
                |of: fn(&StepData) -> &[f32]| parts.iter().flat_map(|part| of(part).to_vec()).collect::<Vec<_>>();
            assert_eq!(joined(|part| &part.positives), expected.positives, "step {step}");
            assert_eq!(joined(|part| &part.unconditional), expected.unconditional, "step {step}");
            assert!(parts.iter().all(|part| part.classes == expected.classes));
        }
        for (rank, (_, held, counters)) in ended.iter().enumerate() {
            assert_eq!(*counters, alone.counters());
            let own = |class: usize| checkpoint == QueueCheckpoint::Samples || class % 3 == rank;
            assert!(held.iter().enumerate().all(|(class, &count)| (count > 0) == own(class)), "rank {rank}: {held:?}");
        }
    }
}

#[test]
fn numbers_reach_other_processes_as_they_are() {
    let image = |label: usize, holds: bool| {
        let values = holds.then(|| Values::Numbers(vec![label as f32 + 0.1, -3.0e-8]));
        Arc::new(Queued { draw: Draw { index: label, number: 0 }, label, values })
    };
    let found = together(2, |ranks| {
        let groups = [[0, 1, 1], [2, 3, 0], [5, 5, 4]]
            .map(|labels| labels.map(|label| image(label, label % 2 == ranks.rank())).to_vec());
        let part = Holding::of(ranks).collect(ranks, &groups, 2).unwrap();
        (part.ids, part.numbers)
    });
    let numbers = |labels: &[u64]| labels.iter().flat_map(|&label| [label as f32 + 0.1, -3.0e-8]).collect::<Vec<_>>();
    for ((ids, found), expected) in found.into_iter().zip([&[0u64, 1, 1][..], &[2, 3, 0, 5, 5, 4]]) {
        assert_eq!((ids.as_slice(), found), (expected, numbers(expected)));
    }
}
