//! How much of the machine's measured peak whole steps reach, and how it grows with their sizes.

use std::time::Instant;

use candle_core::Device;
use drifting_models::profile;
use drifting_train::profile::Machine;

use crate::Contender;
use crate::case;
use crate::step::Step;

/// Steps of a case that are measured, of which the median counts.
const STEPS: usize = 5;

/// Prints a table in Markdown. Operations are counted by the definition of products and convolutions; a 3 x 3 convolution needs
/// fewer, so the time that threads spend in both is beside it.
pub(crate) fn print() {
    let machine = Machine::measure().unwrap();
    println!("{} threads; a product of 2048 x 2048 reaches {:.0} GFLOP/s.\n", machine.threads, machine.flops / 1e9);
    println!("| step | s | GFLOP | GFLOP/s | of the peak | of all threads' time in products and convolutions |");
    println!("|---|---|---|---|---|---|");
    for (name, case) in case::family() {
        let mut step = Step::new(case, &Device::Cpu);
        // Buffers and caches fill.
        (0..2).for_each(|_| drop(step.once()));
        let (mut seconds, mut flops, mut busy) = (Vec::new(), 0, 0.0);
        for _ in 0..STEPS {
            let started = Instant::now();
            let ((), lanes) = profile::record(|| drop(step.once()));
            let time = started.elapsed().as_secs_f64();
            let products = || lanes.iter().flat_map(|lane| &lane.events).filter(|event| event.flops > 0);
            flops = products().map(|event| event.flops).sum();
            busy += products().map(|event| event.length.as_secs_f64()).sum::<f64>() / machine.threads as f64 / time;
            seconds.push(time);
        }
        seconds.sort_by(f64::total_cmp);
        let (time, flops) = (seconds[STEPS / 2], flops as f64);
        let rate = flops / time;
        println!(
            "| {name} | {time:.3} | {:.0} | {:.0} | {:.0} % | {:.0} % |",
            flops / 1e9,
            rate / 1e9,
            100.0 * rate / machine.flops,
            100.0 * busy / STEPS as f64
        );
    }
}
