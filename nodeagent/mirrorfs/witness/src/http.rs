//! One HTTP/1.1 exchange over TLS with one deadline. No pool, no redirect, no retry: an answer or a failure.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why there is no answer. After any of these a PUT may have taken effect, except where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The token file can't be read: nothing was sent.
    Credential,
    /// No connection, or no TLS on it: nothing of the request was sent.
    Connect,
    /// The deadline passed, or the connection broke.
    Broken,
    /// The answer is no HTTP.
    Malformed,
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: String,
}

/// Where the API server is, and how it proves itself.
#[derive(Clone)]
pub struct Endpoint {
    address: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    deadline: Duration,
}

/// An answer is never larger than this: the object is bounded by its schema.
const LIMIT: usize = 1 << 20;

impl Endpoint {
    /// The server at `address`, whose certificate is issued by one of `authorities` (PEM) for `host`.
    ///
    /// # Errors
    /// A sentence for people, if the authorities can't be read.
    pub fn new(address: SocketAddr, host: &str, authorities: &Path, deadline: Duration) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(authorities)
            .map_err(|error| format!("{}: no certificates can be read: {error}", authorities.display()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| format!("{}: {error}", authorities.display()))?;
            roots.add(certificate).map_err(|error| format!("{}: {error}", authorities.display()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| format!("TLS can't be set up: {error}"))?;
        let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Endpoint { address, host: host.into(), tls: Arc::new(tls), deadline })
    }

    /// One request, one answer, within the deadline.
    ///
    /// # Errors
    /// What kept the answer away.
    pub fn exchange(&self, method: &str, path: &str, token: &str, body: Option<&str>) -> Result<Response, Failure> {
        let until = Instant::now() + self.deadline;
        let socket = TcpStream::connect_timeout(&self.address, self.deadline).map_err(|_| Failure::Connect)?;
        socket.set_nodelay(true).map_err(|_| Failure::Connect)?;
        let name = ServerName::try_from(self.host.clone()).map_err(|_| Failure::Connect)?;
        let connection = ClientConnection::new(self.tls.clone(), name).map_err(|_| Failure::Connect)?;
        let mut stream = StreamOwned::new(connection, Dated { socket, until });
        // The handshake first and by itself: as long as it is not over, not one byte of the request has left.
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|_| Failure::Connect)?;
        }
        let body = body.unwrap_or_default();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}",
            self.host
        );
        stream.write_all(request.as_bytes()).map_err(|_| Failure::Broken)?;
        stream.flush().map_err(|_| Failure::Broken)?;
        parse(&read_all(&mut stream)?)
    }
}

/// A socket whose every read and write ends at one moment. TLS reads until it has a whole record: a peer that sends a byte now and
/// then must not stretch the exchange.
struct Dated {
    socket: TcpStream,
    until: Instant,
}

impl Dated {
    fn left(&self) -> std::io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(std::io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Dated {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.socket.set_read_timeout(self.left()?)?;
        self.socket.read(to)
    }
}

impl Write for Dated {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.socket.set_write_timeout(self.left()?)?;
        self.socket.write(from)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}

fn read_all(stream: &mut StreamOwned<ClientConnection, Dated>) -> Result<Vec<u8>, Failure> {
    let (mut answer, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend(&piece[..count]),
            Err(_) => return Err(Failure::Broken),
        }
        if answer.len() > LIMIT {
            return Err(Failure::Malformed);
        }
        if is_complete(&answer) {
            return Ok(answer);
        }
    }
}

fn is_complete(answer: &[u8]) -> bool {
    parse(answer).is_ok()
}

/// An answer is only an answer when all of it is there: a cut one must not look like a short one.
fn parse(answer: &[u8]) -> Result<Response, Failure> {
    let text = std::str::from_utf8(answer).map_err(|_| Failure::Malformed)?;
    let (head, rest) = text.split_once("\r\n\r\n").ok_or(Failure::Broken)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.ok_or(Failure::Malformed)?;
    let header = |name: &str| {
        let found = lines.clone().filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    let body = match (header("content-length"), header("transfer-encoding")) {
        (Some(length), _) => {
            let length: usize = length.parse().map_err(|_| Failure::Malformed)?;
            rest.get(..length).ok_or(Failure::Broken)?.to_owned()
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => unchunk(rest)?,
        _ => return Err(Failure::Malformed),
    };
    Ok(Response { status, body })
}

fn unchunk(mut rest: &str) -> Result<String, Failure> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").ok_or(Failure::Broken)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| Failure::Malformed)?;
        if size == 0 {
            return Ok(body);
        }
        body.push_str(after.get(..size).ok_or(Failure::Broken)?);
        rest = after.get(size..).and_then(|after| after.strip_prefix("\r\n")).ok_or(Failure::Broken)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_is_read_by_length_or_in_chunks() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let chunks = b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n";
        assert_eq!(parse(plain), Ok(Response { status: 200, body: "{}".into() }));
        assert_eq!(parse(chunks), Ok(Response { status: 409, body: "{}".into() }));
    }

    #[test]
    fn a_cut_answer_is_no_answer() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n";
        for answer in [&plain[..], &chunks[..]] {
            for cut in 0..answer.len() - 1 {
                assert!(parse(&answer[..cut]).is_err(), "cut at {cut}");
            }
        }
    }
}
