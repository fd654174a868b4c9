//! From what was seen to figures.

use super::{Known, Settings, Yardstick};
use crate::eval::bootstrap::{distance_interval, share_interval};
use crate::eval::figure::{Better, ClassFigures, Figure};
use crate::eval::look::Seen;
use crate::eval::quality::pair_distance;
use crate::eval::{Measure, Neighbours, Overlap, Result, frechet_distance};

impl Settings<'_> {
    fn figure(&self, name: &str, value: f64, better: Better, generated: usize) -> Figure {
        Figure::new(self.network, (name, value), better, generated)
    }

    /// `KID` for the network of the papers, `kid-NETWORK` for others.
    fn named(&self, title: &str) -> String {
        match self.network.distance_name().as_str() {
            "FID" => title.to_uppercase(),
            _ => format!("{title}-{}", self.network.name()),
        }
    }
}

impl Yardstick<'_> {
    pub(super) fn figures(
        &self,
        seen: &Seen,
        classes: &[ClassFigures],
        neighbours: Option<&Neighbours>,
    ) -> Result<Vec<Figure>> {
        let wants = |measure| self.settings.wants(measure);
        let mut figures = Vec::new();
        if wants(Measure::Frechet) {
            figures.push(self.frechet(seen)?);
        }
        if let Some(real) = self.images() {
            figures.extend(self.kernel(seen, real)?);
        }
        if wants(Measure::Score) {
            figures.extend(self.score(seen));
        }
        if let Some(real) = self.images() {
            figures.extend(self.overlap(seen, real)?);
        }
        if wants(Measure::Accuracy) {
            figures.extend(self.accuracy(seen));
        }
        figures.extend(self.diversity(seen, classes));
        if let (Some(found), Some(real)) = (neighbours, self.images()) {
            let copies = self.settings.figure("copies", found.copies, Better::Lower, seen.numbers.len());
            let (images, floor) = (Some(real.training.images), Some(real.test.numbers.len()));
            figures.push(Figure { floor: Some(0.01), real: images, floor_images: floor, ..copies });
        }
        Ok(figures)
    }

    fn frechet(&self, seen: &Seen) -> Result<Figure> {
        let (name, reference) = (self.settings.network.distance_name(), self.gaussian());
        let distance = frechet_distance(&seen.gaussian()?, reference)?;
        let interval = distance_interval(&seen.blocks, reference, distance, self.settings.seed)?;
        let (floor, floor_images) = self.floor().unzip();
        let real = (reference.count() > 0).then_some(reference.count());
        let figure = self.settings.figure(&name, distance, Better::Lower, seen.images);
        Ok(Figure { interval, floor, floor_images, real, ..figure })
    }

    fn kernel(&self, seen: &Seen, real: &Known) -> Result<Option<Figure>> {
        let Some(found) = real.kernel(&self.settings, seen)? else { return Ok(None) };
        let figure = self.settings.figure(&self.settings.named("kid"), found.value, Better::Lower, seen.numbers.len());
        let floor = real.floor.kernel.map(|floor| floor.value);
        let (images, floor_images) = (Some(real.compared()), Some(real.test.numbers.len()));
        Ok(Some(Figure { deviation: Some(found.deviation), floor, real: images, floor_images, ..figure }))
    }

    fn score(&self, seen: &Seen) -> Option<Figure> {
        let found = seen.score?;
        let figure = self.settings.figure(&self.settings.named("is"), found.value, Better::Higher, seen.images);
        let test = self.images().map(|real| &real.test);
        let floor = test.and_then(|test| test.score).map(|score| score.value);
        let floor_images = test.map(|test| test.images);
        Some(Figure { deviation: Some(found.deviation), floor, floor_images, ..figure })
    }

    fn overlap(&self, seen: &Seen, real: &Known) -> Result<Vec<Figure>> {
        let Some(found) = real.overlap(seen)? else { return Ok(Vec::new()) };
        type Part = fn(&Overlap) -> f64;
        let parts: [(Measure, &str, Part); 4] = [
            (Measure::Precision, "precision", |found| found.precision),
            (Measure::Precision, "recall", |found| found.recall),
            (Measure::Density, "density", |found| found.density),
            (Measure::Density, "coverage", |found| found.coverage),
        ];
        let asked = parts.into_iter().filter(|(measure, ..)| self.settings.wants(*measure));
        let figure = |(_, name, part): (Measure, &str, Part)| {
            let figure = self.settings.figure(name, part(&found), Better::Higher, seen.numbers.len());
            let floor = real.floor.overlap.as_ref().map(part);
            let (images, floor_images) = (Some(real.compared()), Some(real.test.numbers.len()));
            Figure { floor, real: images, floor_images, ..figure }
        };
        Ok(asked.map(figure).collect())
    }

    fn accuracy(&self, seen: &Seen) -> Option<Figure> {
        let right: Vec<bool> = seen.recognised().map(|(_, right)| right).collect();
        let figure = self.settings.figure("accuracy", share(&right)?, Better::Higher, right.len());
        let real: Option<Vec<bool>> =
            self.images().map(|real| real.test.recognised().map(|(_, right)| right).collect());
        let (floor, floor_images) = (real.as_deref().and_then(share), real.as_deref().map(<[bool]>::len));
        Some(Figure { interval: share_interval(&right, self.settings.seed), floor, floor_images, ..figure })
    }

    fn diversity(&self, seen: &Seen, classes: &[ClassFigures]) -> Vec<Figure> {
        let found: Vec<f64> = classes.iter().filter_map(|class| class.diversity).collect();
        if found.is_empty() {
            return Vec::new();
        }
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        let least = found.iter().copied().fold(f64::INFINITY, f64::min);
        let count = |seen: &Seen| seen.pictures.iter().map(Vec::len).sum::<usize>();
        let real = self.images().map(|real| count(&real.training));
        let figure = |name, value| Figure { real, ..self.settings.figure(name, value, Better::Higher, count(seen)) };
        vec![figure("diversity", mean), figure("least-diversity", least)]
    }

    /// Each class, where every label is known.
    pub(super) fn classes(&self, seen: &Seen) -> Result<Vec<ClassFigures>> {
        if seen.labels.iter().any(Option::is_none) {
            return Ok(Vec::new());
        }
        let names = self.settings.classes.iter().enumerate();
        names.map(|(class, name)| self.class(seen, class, name)).collect()
    }

    fn class(&self, seen: &Seen, class: usize, name: &str) -> Result<ClassFigures> {
        let of_class = |seen: &Seen| -> Vec<bool> {
            seen.recognised().filter(|(of, _)| *of == class).map(|(_, right)| right).collect()
        };
        let right = of_class(seen);
        let mut figures = ClassFigures { name: name.to_owned(), images: right.len(), ..ClassFigures::default() };
        if self.settings.wants(Measure::Accuracy) {
            figures.recall = share(&right);
            figures.real_recall = self.images().and_then(|real| share(&of_class(&real.test)));
        }
        let wanted = self.settings.wants(Measure::Diversity);
        if let Some(real) = self.images().filter(|_| wanted) {
            let pairs = |seen: &Seen| pair_distance(name, seen.pictures.get(class).map_or(&[][..], Vec::as_slice));
            let (distance, real) = (pairs(seen)?, pairs(&real.training)?);
            figures.distance = Some(distance);
            figures.real_distance = Some(real);
            figures.diversity = Some(if real > 0.0 { distance / real } else { 1.0 });
        }
        Ok(figures)
    }
}

impl Known {
    /// Training images that are compared one by one.
    fn compared(&self) -> usize {
        self.training.numbers.len().min(super::COMPARED)
    }
}

/// Share of those that count; `None` of none.
fn share(counts: &[bool]) -> Option<f64> {
    let right = counts.iter().filter(|counts| **counts).count();
    (!counts.is_empty()).then(|| right as f64 / counts.len() as f64)
}
