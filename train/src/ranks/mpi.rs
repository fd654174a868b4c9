//! Ranks that `mpirun` has started.

use std::fmt;

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::PartitionMut;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives};

use super::Ranks;

/// All processes of an `mpirun`. Ends MPI when it is dropped, for which each rank waits for the others.
pub struct Mpi {
    world: SimpleCommunicator,
    _universe: Universe,
}

impl Mpi {
    /// Joins the other processes; `None` where MPI cannot be begun, or was before.
    #[must_use]
    pub fn start() -> Option<Self> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Funneled)?;
        // The loop of a run calls from one thread.
        (threading >= Threading::Funneled).then(|| Self { world: universe.world(), _universe: universe })
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "rank {} of {}", self.rank(), self.size())
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.world.rank().unsigned_abs() as usize
    }

    fn size(&self) -> usize {
        self.world.size().unsigned_abs() as usize
    }

    fn gather(&self, mine: &[f64]) -> Vec<f64> {
        let mut counts = vec![0i32; self.size()];
        self.world.all_gather_into(&(mine.len() as i32), &mut counts[..]);
        let places: Vec<i32> = counts
            .iter()
            .scan(0, |next, count| {
                let place = *next;
                *next += count;
                Some(place)
            })
            .collect();
        let mut all = vec![0.0; counts.iter().map(|count| count.unsigned_abs() as usize).sum()];
        let mut partition = PartitionMut::new(&mut all[..], counts, &places[..]);
        self.world.all_gather_varcount_into(mine, &mut partition);
        all
    }

    fn sum(&self, values: &mut [f32]) {
        let mine = values.to_vec();
        self.world.all_reduce_into(&mine[..], values, SystemOperation::sum());
    }

    fn abort(&self) -> ! {
        self.world.abort(1)
    }
}
