//! An HTTP client that tells a connection that was closed from an answer that was cut.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A complete answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case names.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}: {self:?}"))
    }

    /// The code in the body of an error.
    pub(crate) fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn pixels(&self) -> Vec<u8> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        image::load_from_memory(&self.body).unwrap().into_bytes()
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Closed without a byte.
    Closed,
    /// An answer that began and did not end.
    Cut,
}

/// A connection that is kept.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Writes as it is; what the server does not take any more is not written.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes);
    }

    pub(crate) fn get(&mut self, target: &str) -> Result<Answer, Failure> {
        self.write(format!("GET {target} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes());
        self.read()
    }

    pub(crate) fn post(&mut self, target: &str) -> Result<Answer, Failure> {
        self.write(format!("POST {target} HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n").as_bytes());
        self.read()
    }

    /// The next answer.
    pub(crate) fn read(&mut self) -> Result<Answer, Failure> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(length) if length > 0 => {}
            _ => return Err(Failure::Closed),
        }
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(Failure::Cut)?;
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            self.0.read_line(&mut line).map_err(|_| Failure::Cut)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => drop(headers.insert(name.to_lowercase(), value.to_owned())),
                None if line == "\r\n" => break,
                None => return Err(Failure::Cut),
            }
        }
        let length = headers.get("content-length").map_or(0, |length: &String| length.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).map_err(|_| Failure::Cut)?;
        Ok(Answer { status, headers, body })
    }
}
