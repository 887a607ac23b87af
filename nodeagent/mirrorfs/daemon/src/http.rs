//! The smallest HTTP server that metrics and probe need: one GET a connection, answered at once, bounded in time and number.
//!
//! Not here: what is answered. Not for strangers' networks beyond a load balancer's probe: it reads a request's first line only.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::hands::spawn;
use crate::log;

/// How long an asker may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many askers at a time; one more is hung up on.
const ASKERS: usize = 16;
/// A longer request is none.
const REQUEST_MAX: usize = 16_384;

/// An answer.
pub struct Answer {
    pub status: &'static str,
    pub kind: &'static str,
    pub body: String,
}

impl Answer {
    /// There is nothing at this path.
    pub fn nothing() -> Answer {
        Answer { status: "404 Not Found", kind: "text/plain", body: "nothing is answered here\n".into() }
    }
}

/// Answers by path, until the process ends.
///
/// # Errors
/// A sentence: the address can't be listened on.
pub fn serve(
    name: &'static str,
    address: SocketAddr,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> Result<(), String> {
    let listener = TcpListener::bind(address).map_err(|error| format!("{name}: {address}: {error}"))?;
    let answer = Arc::new(answer);
    let askers = Arc::new(AtomicUsize::new(0));
    spawn(name, move || {
        for socket in listener.incoming().flatten() {
            let (answer, place) = (answer.clone(), Place::take(&askers));
            if place.number > ASKERS {
                continue;
            }
            let made = spawn("asker", move || {
                // An asker that hangs or is gone gets nothing.
                let _ = converse(socket, &*answer);
                drop(place);
            });
            if let Err(reason) = made {
                log::error("an asker was hung up on", &[("where", &name), ("reason", &reason)]);
            }
        }
    })
}

/// An asker's place, free again when it is dropped.
struct Place {
    askers: Arc<AtomicUsize>,
    number: usize,
}

impl Place {
    fn take(askers: &Arc<AtomicUsize>) -> Place {
        Place { askers: askers.clone(), number: askers.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.askers.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(mut socket: TcpStream, answer: &impl Fn(&str) -> Answer) -> std::io::Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let (mut request, mut piece) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_MAX {
        match socket.read(&mut piece)? {
            0 => return Ok(()),
            got => request.extend_from_slice(&piece[..got]),
        }
    }
    let Answer { status, kind, body } = path(&request).map_or_else(Answer::nothing, answer);
    let length = body.len();
    write!(
        socket,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// What a GET asks for.
fn path(request: &[u8]) -> Option<&str> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let (path, version) = std::str::from_utf8(line).ok()?.strip_prefix("GET ")?.split_once(' ')?;
    version.starts_with("HTTP/1.").then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_get_has_a_path() {
        assert_eq!(path(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), Some("/metrics"));
        assert_eq!(path(b"GET /probe/a/b HTTP/1.0\r\n\r\n"), Some("/probe/a/b"));
        for other in [&b"POST /metrics HTTP/1.1\r\n\r\n"[..], b"GET /metrics\r\n\r\n", b"\xff\r\n\r\n", b""] {
            assert_eq!(path(other), None);
        }
    }
}
