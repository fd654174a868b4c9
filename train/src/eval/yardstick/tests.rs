use drifting_spec::Stream;

use super::*;
use crate::data::Dataset;
use crate::eval::contract::tests::{Plain, SHAPE};
use crate::eval::{RealImages, Rounding};

const NETWORK: Plain = Plain { features: 6, classes: 2 };

/// Two classes, told apart by their first two pixels; `spread` is the deviation of all pixels.
fn data(count: usize, seed: u64, spread: f64) -> Dataset {
    let mut stream = Stream::new(seed, "pixels", 0);
    let labels: Vec<usize> = (0..count).map(|image| image % 2).collect();
    let mut pixels = Vec::new();
    for &label in &labels {
        for at in 0..6 {
            let mean = if at == label { 180.0 } else { 90.0 };
            pixels.push((mean + spread * stream.normal()).clamp(0.0, 255.0) as u8);
        }
    }
    Dataset::new(SHAPE, pixels, labels, vec!["a".into(), "b".into()]).unwrap()
}

fn settings(measures: &[Measure]) -> Settings<'static> {
    Settings {
        network: &NETWORK,
        measures: measures.to_vec(),
        classes: vec!["a".into(), "b".into()],
        labelled: true,
        seed: 3,
    }
}

fn contract() -> Contract {
    Contract::new(&NETWORK, SHAPE, Rounding::Nearest)
}

fn yardstick(measures: &[Measure]) -> Yardstick<'static> {
    let (training, test) = (data(1200, 1, 30.0), data(300, 2, 30.0));
    let sets = (&mut RealImages::all(&training), &mut RealImages::all(&test));
    Yardstick::of_images(settings(measures), sets.0, sets.1, &mut |_| ()).unwrap()
}

fn measure(yardstick: &Yardstick<'_>, data: &Dataset) -> Evaluation {
    let provenance = Provenance { source: "x".into(), ..Provenance::default() };
    yardstick.measure(&mut RealImages::all(data), contract(), provenance, &mut |_| ()).unwrap()
}

#[test]
fn images_like_the_real_ones_have_the_figures_of_the_floor_and_dull_ones_do_not() {
    let yardstick = yardstick(&Measure::ALL);
    let (real, dull) = (measure(&yardstick, &data(300, 5, 30.0)), measure(&yardstick, &data(300, 5, 6.0)));
    let value = |found: &Evaluation, name: &str| found.figure(name).unwrap_or_else(|| panic!("{name}: {found}")).value;
    let names: Vec<_> = real.figures.iter().map(|figure| figure.name.as_str()).collect();
    let expected = [
        "fd-plain",
        "kid-plain",
        "is-plain",
        "precision",
        "recall",
        "density",
        "coverage",
        "accuracy",
        "diversity",
        "least-diversity",
        "copies",
    ];
    assert_eq!(names, expected);
    for figure in &real.figures {
        assert_eq!((figure.generated, figure.network_sha256.as_str()), (300, "00ff"), "{}", figure.name);
        if let Some(floor) = figure.floor {
            let near = (figure.value - floor).abs();
            assert!(near < 0.1 * floor.abs() + 0.01, "{}: {} {floor}", figure.name, figure.value);
            assert_eq!(figure.floor_images, Some(300), "{}", figure.name);
        }
    }
    assert!(value(&dull, "fd-plain") > 10.0 * value(&real, "fd-plain"), "{dull}");
    assert!(real.figure("kid-plain").unwrap().deviation > Some(0.0));
    let falls = |name| value(&dull, name) < 0.5 * value(&real, name);
    assert!(falls("recall") && falls("coverage") && !falls("precision"), "{dull}\n{real}");
    assert!((value(&real, "diversity") - 1.0).abs() < 0.1 && value(&dull, "diversity") < 0.3);
    let interval = real.figure("fd-plain").unwrap().interval.unwrap();
    assert!(interval.low < value(&real, "fd-plain") && value(&real, "fd-plain") < interval.high, "{interval:?}");
    assert_eq!(real.classes.iter().map(|class| class.images).collect::<Vec<_>>(), [150, 150]);
    let recall = real.classes.iter().filter_map(|class| class.recall).sum::<f64>() / 2.0;
    assert!((recall - value(&real, "accuracy")).abs() < 1e-12);
    assert!(real.neighbours.is_some() && real.comparable.is_none());
}

#[test]
fn copies_of_training_images_are_found() {
    let yardstick = yardstick(&[Measure::Neighbours]);
    let found = measure(&yardstick, &data(300, 1, 30.0));
    // The first of the training images, in the same order.
    assert_eq!(found.figure("copies").unwrap().value, 1.0);
    let nearest = &found.neighbours.unwrap().nearest[0];
    assert_eq!(nearest.training[0], nearest.image);
}

#[test]
fn statistics_give_the_distance_of_the_images_that_they_are_of() {
    let by_images = yardstick(&[Measure::Frechet, Measure::Score, Measure::Accuracy]);
    let statistics = by_images.statistics(contract(), "abc", "x");
    let facts = statistics.facts.clone().unwrap();
    assert_eq!((facts.images, facts.classes[1].images, facts.floor.unwrap().images), (1200, 600, 300));
    let wanted = || settings(&[Measure::Frechet, Measure::Score, Measure::Accuracy]);
    let by_file = Yardstick::of_statistics(wanted(), statistics.clone(), &contract(), false).unwrap();
    let generated = data(300, 5, 20.0);
    let (left, right) = (measure(&by_images, &generated), measure(&by_file, &generated));
    assert_eq!(left.figure("fd-plain"), right.figure("fd-plain"));
    assert_eq!(right.comparable, Some(Some(true)));

    let other = Contract { preparation: "other".into(), ..contract() };
    let refused = Yardstick::of_statistics(wanted(), statistics.clone(), &other, false).err().unwrap().to_string();
    assert!(refused.contains("differ in preparation: \"other\", but \"pixels / 255\""), "{refused}");
    let marked = measure(&Yardstick::of_statistics(wanted(), statistics.clone(), &other, true).unwrap(), &generated);
    assert_eq!(marked.comparable, Some(Some(false)));
    assert!(marked.notes[0].contains("preparation") && marked.to_string().contains("NOT COMPARABLE"));
    let json = serde_json::to_value(&marked).unwrap();
    assert_eq!(json["comparable"], false);

    let published = Statistics { facts: None, ..statistics.clone() };
    let published = measure(&Yardstick::of_statistics(wanted(), published, &contract(), false).unwrap(), &generated);
    let json = serde_json::to_value(&published).unwrap();
    assert!(json.get("comparable").unwrap().is_null() && published.notes[0].contains(".npz"), "{json}");
    let single = Yardstick::of_statistics(settings(&[Measure::Kid]), statistics, &contract(), false);
    assert!(single.err().unwrap().to_string().contains("kid compares single images"));
}

#[test]
fn measures_of_classes_need_labels() {
    struct Unlabelled(Dataset);
    impl ImageSet for Unlabelled {
        fn shape(&self) -> drifting_spec::ImageShape {
            SHAPE
        }

        fn images(&self) -> usize {
            self.0.len()
        }

        fn label(&self, _: usize) -> Option<usize> {
            None
        }

        fn pixels(&mut self, first: usize, count: usize) -> Result<crate::eval::Pixels> {
            RealImages::all(&self.0).pixels(first, count)
        }
    }
    let mut images = Unlabelled(data(100, 5, 30.0));
    let mut look =
        |measures: &[Measure]| yardstick(measures).measure(&mut images, contract(), Provenance::default(), &mut |_| ());
    assert!(look(&[Measure::Frechet]).unwrap().classes.is_empty());
    let error = look(&[Measure::Frechet, Measure::Accuracy]).unwrap_err().to_string();
    assert_eq!(error, "the classes of 100 images are not known, which accuracy needs");
    let three = Settings { classes: ["a", "b", "c"].map(String::from).into(), ..settings(&[Measure::Accuracy]) };
    let (mut training, mut test) = (RealImages::all(&images.0), RealImages::all(&images.0));
    let error = Yardstick::of_images(three, &mut training, &mut test, &mut |_| ()).err().unwrap().to_string();
    assert_eq!(error, "accuracy: plain knows 2 classes, the data have 3");
    let others = Settings { labelled: false, ..settings(&[]) };
    assert!(!others.possible(true).contains(&Measure::Accuracy) && others.possible(true).contains(&Measure::Kid));
    assert!(settings(&[]).possible(true).contains(&Measure::Accuracy));
    assert_eq!(settings(&[]).possible(false), [Measure::Frechet, Measure::Accuracy]);
}
