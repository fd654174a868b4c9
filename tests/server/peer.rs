//! The hand-written server that ours is raced against (serve/benches/race.py) gives the same images.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Connection;
use crate::python::python;
use crate::running::{self, Running};

struct Peer {
    child: Child,
    address: String,
}

impl Peer {
    fn start(python: &Path, variant: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut command = Command::new(python);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("serve/benches/peer/server.py").arg(running::model());
        command.args(["--port", &port, "--variant", variant]).stdin(Stdio::null());
        let mut peer = Self { child: command.spawn().unwrap(), address: format!("127.0.0.1:{port}") };
        let until = Instant::now() + Duration::from_secs(60);
        while Connection::open(&peer.address).is_err() {
            assert!(peer.child.try_wait().unwrap().is_none() && Instant::now() < until, "it does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_peer_of_the_race_gives_the_same_pixels() {
    let Some(python) = python("serve/benches/peer/requirements.txt", "python-peer") else { return };
    let ours = Running::start(&[]);
    for variant in ["plain", "batching"] {
        let peer = Peer::start(&python, variant);
        let mut connection = Connection::open(&peer.address).unwrap();
        for (number, alpha) in [(0, 1.0), (3, 1.5), (9, 2.0)] {
            let query = format!("class={number}&alpha={alpha}&seed={}", u64::MAX - number);
            let expected = ours.generate(&query).pixels();
            let found = connection.post(&format!("/generate?{query}&format=png")).unwrap();
            assert_eq!(found.pixels(), expected, "{variant}: {query}");
            // A sheet comes from batches of other sizes, in which the last bits may differ.
            let expected = ours.generate(&format!("{query}&n=5")).pixels();
            let found = connection.post(&format!("/generate?{query}&n=5")).unwrap().pixels();
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1), "{variant}: {query}&n=5");
        }
        for wrong in ["class=10", "class=3&alpha=nan", "class=3&n=0", "class=3&seed=18446744073709551616"] {
            assert_eq!(connection.post(&format!("/generate?{wrong}")).unwrap().status, 422, "{wrong}");
        }
    }
}
