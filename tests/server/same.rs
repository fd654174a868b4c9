//! The same seed gives the same bytes, whatever else the server does.

use std::sync::Barrier;

use crate::client::Answer;
use crate::running::Running;

const OURS: &str = "class=Bag&alpha=1.25&seed=18446744073709551615";
const STRANGERS: u64 = 64;

/// Our request in the midst of others, while the engine is busy with a larger one.
fn among_strangers(server: &Running, ours: &str) -> Answer {
    let ready = Barrier::new(STRANGERS as usize + 2);
    std::thread::scope(|scope| {
        let ask = |query: String| {
            let mut connection = server.connect();
            ready.wait();
            connection.post(&format!("/generate?{query}")).unwrap()
        };
        for stranger in 0..=STRANGERS {
            let alpha = 1.0 + (stranger % 8) as f32 / 8.0;
            // The first of them keeps the engine busy while the rest gathers.
            let count = if stranger == 0 { 64 } else { 1 };
            let query = format!("class={}&alpha={alpha}&seed={stranger}&n={count}", stranger % 10);
            scope.spawn(move || assert_eq!(ask(query).status, 200));
        }
        ask(ours.to_owned())
    })
}

#[test]
fn same_seed_same_bytes() {
    let (alone, sheet) = {
        let server = Running::start(&["--max-batch", "64"]);
        let alone = server.generate(OURS);
        assert_eq!(alone.header("x-batch-size"), "1");
        for _ in 0..4 {
            let among = among_strangers(&server, OURS);
            println!("in a batch of {}", among.header("x-batch-size"));
            assert_eq!(among.body, alone.body, "in a batch of {}", among.header("x-batch-size"));
        }
        let sheet = server.generate(&format!("{OURS}&n=9"));
        (alone.body, sheet.body)
    };
    // After a restart, with another largest batch.
    for batch in ["64", "5", "1"] {
        let server = Running::start(&["--max-batch", batch]);
        assert_eq!(server.generate(OURS).body, alone, "--max-batch {batch}");
        assert_eq!(server.generate(&format!("{OURS}&n=9")).body, sheet, "--max-batch {batch}");
    }
}

/// What `--fast-batches` gives up.
#[test]
fn with_fast_batches_a_pixel_here_and_there_moves_by_one_level() {
    let server = Running::start(&["--max-batch", "64", "--fast-batches"]);
    let (mut moved, mut pixels, mut largest) = (0, 0, 0);
    for seed in 0..8 {
        let ours = format!("class={seed}&seed={seed}&alpha=1.5&n=4");
        let alone = server.generate(&ours).pixels();
        let among = among_strangers(&server, &ours);
        largest = largest.max(among.header("x-batch-size").parse().unwrap());
        let difference = alone.iter().zip(among.pixels()).map(|(&one, other)| one.abs_diff(other));
        assert!(difference.clone().all(|levels| levels <= 1), "seed {seed}: more than a level");
        moved += difference.filter(|levels| *levels == 1).count();
        pixels += alone.len();
    }
    println!("{moved} of {pixels} pixels moved by one level; largest batch {largest}");
    assert!(largest > 4, "nothing was computed with strangers");
    assert!(moved * 1000 <= pixels, "{moved} of {pixels} pixels moved");
}
