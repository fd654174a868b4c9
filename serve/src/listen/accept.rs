//! Taking connections, whatever the operating system says.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long to wait for open files or memory before the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// The next connection, and its place among those that may be open. Waits for a place first, so that what is beyond the
/// bound stays in the system's queue.
pub(super) async fn accept(socket: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // Nobody closes the semaphore.
    let place = Arc::clone(room).acquire_owned().await.ok();
    let mut told = false;
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                if !told {
                    tracing::error!(%error, "cannot take connections; trying on (is the limit of open files too low?)");
                }
                told = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether a connection ended before it was taken.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset | Interrupted)
}
