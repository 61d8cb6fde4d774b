//! Exchanges over one TCP connection.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Exchange, Request, local, millis};
use crate::failure::Failure;
use crate::wire::Message;

pub(crate) struct TcpSession {
    reader: BufReader<TcpStream>,
    timeout: Duration,
}

/// A connection without Nagle's delay, whose reads and writes give up after `timeout`.
pub(crate) fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect_timeout(&address, timeout)
        .map_err(|error| Failure::from_io(&error, millis(timeout)))?;
    stream.set_nodelay(true).map_err(|error| local(&error))?;
    stream.set_read_timeout(Some(timeout)).map_err(|error| local(&error))?;
    stream.set_write_timeout(Some(timeout)).map_err(|error| local(&error))?;
    Ok(stream)
}

impl TcpSession {
    pub(crate) fn open(address: SocketAddr, timeout: Duration) -> Result<Self, Failure> {
        Ok(Self { reader: BufReader::with_capacity(1 << 16, connect(address, timeout)?), timeout })
    }

    /// Each later exchange may take so long.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) -> Result<(), Failure> {
        let stream = self.reader.get_ref();
        let set =
            stream.set_read_timeout(Some(timeout)).and_then(|()| stream.set_write_timeout(Some(timeout)));
        self.timeout = timeout;
        set.map_err(|error| local(&error))
    }

    /// This side of the connection.
    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.reader.get_ref().local_addr()
    }

    pub(crate) fn exchange(&mut self, bytes: u32) -> Result<Exchange, Failure> {
        let request = Request::new(bytes);
        let mut payload = vec![0; bytes as usize];
        let after_ms = millis(self.timeout);
        let start = Instant::now();
        self.reader
            .get_mut()
            .write_all(&request.frame)
            .map_err(|error| Failure::from_io(&error, after_ms))?;
        let (answer, nonce) =
            Message::read(&mut self.reader).map_err(|error| Failure::from_wire(&error, after_ms))?;
        let length = match answer {
            Message::Answer { length, .. } if nonce == request.nonce => length,
            _ => return Err(Failure::Malformed { detail: format!("{answer:?} answers another request") }),
        };
        if length != bytes {
            return Err(Failure::Malformed { detail: format!("{length} payload bytes instead of {bytes}") });
        }
        self.reader.read_exact(&mut payload).map_err(|error| Failure::from_io(&error, after_ms))?;
        request.verify(answer, &payload, start.elapsed())
    }
}
