//! Ranks that `mpirun` has started.

#[cfg(feature = "nccl")]
use std::cell::OnceCell;
use std::fmt;
use std::time::Duration;

#[cfg(feature = "nccl")]
use candle_core::CudaDevice;
use candle_core::{Device, Result};
use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
#[cfg(feature = "nccl")]
use mpi::traits::Root;
use mpi::traits::{Communicator, CommunicatorCollectives};

#[cfg(feature = "nccl")]
use super::gpus::{Gpus, Queued};
use super::{OnThread, Ranks, Sums, Waits};

/// Bytes that a rank hands another one at once: MPI counts them in 32 bits.
const PIECE: usize = 1 << 22;

/// How long nothing is done for sums while a rank goes on.
const PAUSE: Duration = Duration::from_micros(200);

/// All processes of an `mpirun`. Ends MPI when it is dropped, for which each rank waits for the others.
pub struct Mpi {
    /// Joined when the first sum is wanted of them; before MPI, so that it ends first.
    #[cfg(feature = "nccl")]
    gpus: OnceCell<Gpus>,
    world: SimpleCommunicator,
    _universe: Universe,
}

impl Mpi {
    /// Joins the other processes; `None` where MPI cannot be begun, was before, or takes calls from one thread alone.
    #[must_use]
    pub fn start() -> Option<Self> {
        let (universe, threading) = mpi::initialize_with_threading(Threading::Serialized)?;
        // The loop of a run calls from one thread, or waits for one that adds up.
        (threading >= Threading::Serialized).then(|| Self {
            #[cfg(feature = "nccl")]
            gpus: OnceCell::new(),
            world: universe.world(),
            _universe: universe,
        })
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
        let places = places(&counts);
        let mut all = vec![0.0; counts.iter().map(|count| count.unsigned_abs() as usize).sum()];
        let mut partition = PartitionMut::new(&mut all[..], counts, &places[..]);
        self.world.all_gather_varcount_into(mine, &mut partition);
        all
    }

    fn sums(&self, device: &Device) -> Result<Box<dyn Sums>> {
        #[cfg(feature = "nccl")]
        if let Device::Cuda(device) = device {
            return Ok(Box::new(Queued::new(self.gpus(device)?)));
        }
        let _ = device;
        // The thread's own handle: this one's cannot leave its thread.
        Ok(Box::new(OnThread::start(|values, waits| sum(&SimpleCommunicator::world(), values, waits))))
    }

    fn exchange(&self, messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let longest = messages.iter().map(Vec::len).max().unwrap_or(0) as u64;
        let mut pieces = 0;
        self.world.all_reduce_into(&longest.div_ceil(PIECE as u64), &mut pieces, SystemOperation::max());
        let mut received = vec![Vec::new(); messages.len()];
        for piece in 0..pieces as usize {
            let parts: Vec<&[u8]> = messages.iter().map(|message| part(message, piece)).collect();
            let counts: Vec<i32> = parts.iter().map(|part| part.len() as i32).collect();
            let mut expected = vec![0i32; counts.len()];
            self.world.all_to_all_into(&counts[..], &mut expected[..]);
            // A byte more: a vector of none has the address 1, which Open MPI takes for MPI_IN_PLACE.
            let mut flat = parts.concat();
            flat.push(0);
            let mut found = vec![0u8; expected.iter().map(|count| count.unsigned_abs() as usize).sum::<usize>() + 1];
            let outgoing = Partition::new(&flat[..], &counts[..], places(&counts));
            let mut incoming = PartitionMut::new(&mut found[..], &expected[..], places(&expected));
            self.world.all_to_all_varcount_into(&outgoing, &mut incoming);
            let mut rest = &found[..];
            for (message, count) in received.iter_mut().zip(expected) {
                let (here, after) = rest.split_at(count.unsigned_abs() as usize);
                message.extend_from_slice(here);
                rest = after;
            }
        }
        received
    }

    fn abort(&self) -> ! {
        self.world.abort(1)
    }
}

#[cfg(feature = "nccl")]
impl Mpi {
    /// The GPUs of all ranks, which are joined when they are first wanted.
    fn gpus(&self, device: &CudaDevice) -> Result<Gpus> {
        if let Some(gpus) = self.gpus.get() {
            return Ok(gpus.clone());
        }
        let ranks = (self.rank(), self.size());
        let gpus = Gpus::join(device, ranks, |name| self.world.process_at_rank(0).broadcast_into(&mut name[..]))?;
        Ok(self.gpus.get_or_init(|| gpus).clone())
    }
}

/// Adds up the numbers of all ranks in place. While the rank goes on, MPI, which is fastest when it never rests, has little of the
/// processor.
fn sum(world: &SimpleCommunicator, values: &mut [f32], waits: &Waits) {
    // MPI counts numbers in 32 bits.
    for values in values.chunks_mut(1 << 30) {
        let mine = values.to_vec();
        mpi::request::scope(|scope| {
            let mut request = Some(world.immediate_all_reduce_into(scope, &mine[..], values, SystemOperation::sum()));
            while let Some(under_way) = request.take() {
                if waits.now() {
                    under_way.wait();
                } else if let Err(under_way) = under_way.test() {
                    request = Some(under_way);
                    std::thread::sleep(PAUSE);
                }
            }
        });
    }
}

/// Where parts of these lengths begin that lie one after the other.
fn places(counts: &[i32]) -> Vec<i32> {
    let next = |next: &mut i32, count: &i32| {
        let place = *next;
        *next += count;
        Some(place)
    };
    counts.iter().scan(0, next).collect()
}

/// Piece `number` of a message, empty after its end.
fn part(message: &[u8], number: usize) -> &[u8] {
    let first = (number * PIECE).min(message.len());
    &message[first..(first + PIECE).min(message.len())]
}
