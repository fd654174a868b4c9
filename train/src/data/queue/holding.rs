//! Which images the queues of one of several processes hold, and how they reach the process that needs them.

use std::sync::Arc;

use super::Part;
use crate::data::images::append_pixels;
use crate::data::{DataError, Draw, Result, Sample, Values};
use crate::ranks::{Ranks, Share};

/// An image in a queue. Every process knows what is queued; what it looks like, those that hold its class.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) draw: Draw,
    pub(super) label: usize,
    pub(super) values: Option<Values>,
}

impl From<Sample> for Queued {
    fn from(Sample { draw, label, values }: Sample) -> Self {
        Self { draw, label, values: Some(values) }
    }
}

/// The classes whose images this process reads and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// Those of all.
    All,
    /// Every `ranks`-th class.
    Some { rank: usize, ranks: usize },
}

impl Holding {
    /// That of this process, where classes are shared out.
    pub(super) fn of(ranks: &dyn Ranks) -> Self {
        match ranks.size() {
            1 => Self::All,
            size => Self::Some { rank: ranks.rank(), ranks: size },
        }
    }

    pub(super) fn holds(self, label: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some { rank, ranks } => holder(label, ranks) == rank,
        }
    }

    /// Tells all processes which of the `samples` that some of them have read are other images than were asked for, by their
    /// places; how many there are in all.
    pub(super) fn agree(self, ranks: &dyn Ranks, samples: &mut [Queued], replaced: &[usize]) -> u64 {
        if self == Self::All {
            return replaced.len() as u64;
        }
        let mine: Vec<f64> =
            replaced.iter().flat_map(|&place| [place as f64, samples[place].draw.index as f64]).collect();
        let all = ranks.gather(&mine);
        let pairs = all.as_chunks::<2>().0;
        for &[place, index] in pairs {
            if let Some(sample) = samples.get_mut(place as usize) {
                sample.draw.index = index as usize;
            }
        }
        pairs.len() as u64
    }

    /// The images of this process's class groups, out of those that were drawn for each group of all; `len` numbers each.
    ///
    /// # Errors
    /// Images that nobody holds.
    pub(super) fn collect(self, ranks: &dyn Ranks, groups: &[Vec<Arc<Queued>>], len: usize) -> Result<Part> {
        let share = Share::of(ranks, groups.len());
        let mut part = Part::default();
        match self {
            Self::All => groups[share.range()].iter().flatten().try_for_each(|queued| part.add(queued)),
            Self::Some { rank, ranks: size } => {
                let shares: Vec<Share> = (0..size).map(|rank| Share::new(groups.len(), rank, size)).collect();
                // One group of each process at a time.
                for turn in 0..groups.len().div_ceil(size) {
                    let group = |to: usize| match turn < shares[to].groups {
                        true => groups[shares[to].first + turn].as_slice(),
                        false => &[],
                    };
                    let messages = (0..size).map(|to| packed(group(to))).collect();
                    part.unpack(group(rank), &ranks.exchange(messages), len)?;
                }
                Ok(())
            }
        }?;
        Ok(part)
    }
}

/// The process that holds the images of a class.
fn holder(label: usize, ranks: usize) -> usize {
    label % ranks
}

/// The images among these that are held here, one after the other.
fn packed(images: &[Arc<Queued>]) -> Vec<u8> {
    let mut message = Vec::new();
    for values in images.iter().filter_map(|image| image.values.as_ref()) {
        match values {
            Values::Bytes(bytes) => message.extend_from_slice(bytes),
            Values::Numbers(numbers) => message.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
        }
    }
    message
}

impl Part {
    fn add(&mut self, queued: &Queued) -> Result<()> {
        let Some(values) = &queued.values else { return Err(lost(queued)) };
        values.append_to(&mut self.numbers);
        self.ids.push(queued.draw.index as u64);
        Ok(())
    }

    /// Adds `images` from the messages of those that hold them.
    fn unpack(&mut self, images: &[Arc<Queued>], messages: &[Vec<u8>], len: usize) -> Result<()> {
        let mut rest: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let mut waiting = vec![0; messages.len()];
        images.iter().for_each(|image| waiting[holder(image.label, messages.len())] += 1);
        // All images of a source are of one kind.
        let widths: Vec<usize> =
            rest.iter().zip(&waiting).map(|(message, &count)| message.len() / count.max(1)).collect();
        for image in images {
            let from = holder(image.label, messages.len());
            let Some((own, others)) = rest[from].split_at_checked(widths[from]) else { return Err(lost(image)) };
            rest[from] = others;
            match own.len() {
                bytes if bytes == len => append_pixels(own, &mut self.numbers),
                bytes if bytes == 4 * len => {
                    self.numbers.extend(own.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)));
                }
                _ => return Err(lost(image)),
            }
            self.ids.push(image.draw.index as u64);
        }
        Ok(())
    }
}

fn lost(image: &Queued) -> DataError {
    DataError::Inconsistent(format!("image {} of class {} is in no process's queue", image.draw.index, image.label))
}
