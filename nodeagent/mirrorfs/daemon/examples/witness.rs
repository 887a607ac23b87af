//! `witness FOLDER`: stands in for the API server where the witness is not what is tested or measured.
//!
//! Serves the one object in `FOLDER/record.json` on a loopback port: GET, and PUT with a compared `resourceVersion`, over TLS with
//! a certificate of its own (`FOLDER/witness-ca.pem`). Prints its address, and ends when its standard input does. It knows none of
//! the record's rules; tests of witness and takeover use a real API server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: witness FOLDER")?);
    let mut record: Value = serde_json::from_slice(&std::fs::read(folder.join("record.json"))?)?;
    record["metadata"]["resourceVersion"] = json!("1");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()])?;
    std::fs::write(folder.join("witness-ca.pem"), made.cert.pem())?;
    std::fs::write(folder.join("witness-token"), "token")?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let (tls, record) = (Arc::new(tls), Arc::new(Mutex::new(record)));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("https://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (tls, record) = (tls.clone(), record.clone());
            std::thread::spawn(move || {
                // A caller that went away asks again.
                let _ = serve(socket, tls, &record);
            });
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn serve(socket: TcpStream, tls: Arc<ServerConfig>, record: &Mutex<Value>) -> Result<(), Failure> {
    let mut stream = StreamOwned::new(ServerConnection::new(tls)?, socket);
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    let (head, body) = loop {
        let got = stream.read(&mut piece)?;
        request.extend_from_slice(&piece[..got]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap_or("0");
            if body.len() >= length.parse()? {
                break (head.to_owned(), body.to_owned());
            }
        }
    };
    let mut record = record.lock().map_err(|_| "a writer panicked")?;
    let status = if head.starts_with("PUT ") {
        let mut next: Value = serde_json::from_str(&body)?;
        if next["metadata"]["resourceVersion"] == record["metadata"]["resourceVersion"] {
            let version: u64 = record["metadata"]["resourceVersion"].as_str().unwrap_or_default().parse()?;
            next["metadata"]["resourceVersion"] = json!((version + 1).to_string());
            *record = next;
            "200 OK"
        } else {
            "409 Conflict"
        }
    } else {
        "200 OK"
    };
    let body = record.to_string();
    drop(record);
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    stream.flush()?;
    Ok(())
}
