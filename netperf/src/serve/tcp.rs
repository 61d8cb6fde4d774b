//! Answers over TCP: any number of messages per connection, one thread per connection.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::udp::exchange_answer;
use crate::wire::{Message, WireError};

/// A connection without a message for this long is closed.
const IDLE: Duration = Duration::from_secs(600);
/// Connections served at the same time; more are closed at once.
const MAX_CONNECTIONS: usize = 1024;
/// Longest time that an asker can have bulk sent.
const MAX_BULK: Duration = Duration::from_secs(600);
pub(crate) const BULK_CHUNK: usize = 128 << 10;

pub(super) fn answer(listener: &TcpListener, name: &str) {
    let name: Arc<str> = Arc::from(name);
    loop {
        match listener.accept() {
            Ok((stream, source)) if Arc::strong_count(&name) <= MAX_CONNECTIONS => {
                let name = Arc::clone(&name);
                // without a thread the connection closes, which the asker sees
                let _ = thread::Builder::new().spawn(move || serve_connection(stream, source, &name));
            }
            Ok(_) => {}
            // for example EMFILE: the connection stays in the backlog until there is room
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Ends with the connection; what went wrong is the asker's to report.
fn serve_connection(stream: TcpStream, source: SocketAddr, name: &str) {
    let ready = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(IDLE)));
    if ready.and_then(|()| stream.set_write_timeout(Some(IDLE))).is_err() {
        return;
    }
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    while serve_message(&mut reader, source, name).is_ok() {}
}

fn serve_message(reader: &mut BufReader<TcpStream>, source: SocketAddr, name: &str) -> Result<(), WireError> {
    let (message, nonce) = Message::read(reader)?;
    match message {
        Message::Exchange { ask, length } => {
            let mut payload = vec![0; length as usize];
            reader.read_exact(&mut payload)?;
            reader.get_mut().write_all(&exchange_answer(name, nonce, ask, &payload, source))?;
            Ok(())
        }
        Message::Sink => {
            let (bytes, elapsed) = drain(reader)?;
            let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            reader.get_mut().write_all(&Message::SinkResult { bytes, micros }.encode(nonce))?;
            Ok(())
        }
        Message::Source { millis } => {
            let duration = Duration::from_millis(u64::from(millis)).min(MAX_BULK);
            pump(reader.get_mut(), duration)?;
            Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
        }
        _ => Err(WireError::Field { field: "kind", value: 0 }),
    }
}

/// Reads to the end of the stream: how much came, from the first byte to the last.
pub(crate) fn drain(reader: &mut impl Read) -> io::Result<(u64, Duration)> {
    let mut chunk = vec![0; BULK_CHUNK];
    let mut bytes = 0;
    let mut start: Option<Instant> = None;
    loop {
        let length = reader.read(&mut chunk)?;
        let begun = *start.get_or_insert_with(Instant::now);
        if length == 0 {
            return Ok((bytes, begun.elapsed()));
        }
        bytes += length as u64;
    }
}

/// Writes for `duration`.
pub(crate) fn pump(writer: &mut impl Write, duration: Duration) -> io::Result<()> {
    let chunk = vec![0x5a; BULK_CHUNK];
    let start = Instant::now();
    while start.elapsed() < duration {
        writer.write_all(&chunk)?;
    }
    Ok(())
}
