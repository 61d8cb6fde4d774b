//! Reading the kernel's state: whole tables, or one object.

use super::{Connection, Error, Frame, Refusal, Request, Socket, frames};
use crate::attributes::Malformed;

/// Every attempt races with the same writers; ten in a row are a busy kernel, not bad luck.
const ATTEMPTS: u32 = 10;

impl<S: Socket> Connection<S> {
    /// Everything that the request selects and `decode` takes, from one consistent reading.
    pub(crate) fn dump<T>(
        &mut self,
        reading: &'static str,
        request: &Request,
        decode: impl Fn(&Frame<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, Error> {
        for attempt in 1..=ATTEMPTS {
            let found = self.exchange(|connection| connection.read_all(reading, request, &decode))?;
            if let Some(found) = found {
                return Ok(found);
            }
            tracing::debug!(reading, attempt, "interrupted by a change, reading again");
        }
        Err(Error::Interrupted { reading, attempts: ATTEMPTS })
    }

    /// One reading, or `None` where the kernel says that it changed meanwhile.
    fn read_all<T>(
        &mut self,
        reading: &'static str,
        request: &Request,
        decode: &impl Fn(&Frame<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Option<Vec<T>>, Error> {
        let sequence = self.ask(request, netlink_packet_core::NLM_F_DUMP)?;
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            self.receive(self.timeout)?;
            for frame in frames(&self.buffer) {
                let frame = expect(frame?, sequence)?;
                interrupted |= frame.has(netlink_packet_core::NLM_F_DUMP_INTR);
                match frame.message_type {
                    netlink_packet_core::NLMSG_DONE => {
                        return finish(reading, frame.completion()?, found, interrupted);
                    }
                    netlink_packet_core::NLMSG_ERROR => return Err(refused(reading, &frame)?),
                    netlink_packet_core::NLMSG_OVERRUN => return Err(Error::Overrun),
                    netlink_packet_core::NLMSG_NOOP => {}
                    _ => found.extend(decode(&frame).map_err(|e| in_reading(reading, e))?),
                }
            }
        }
    }

    /// The one object that the request names, or the kernel's refusal to show it.
    pub(crate) fn get<T>(
        &mut self,
        reading: &'static str,
        request: &Request,
        decode: impl Fn(&Frame<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Result<Option<T>, Refusal>, Error> {
        self.exchange(|connection| {
            let sequence = connection.ask(request, netlink_packet_core::NLM_F_ACK)?;
            let mut found = None;
            loop {
                connection.receive(connection.timeout)?;
                for frame in frames(&connection.buffer) {
                    let frame = expect(frame?, sequence)?;
                    if frame.message_type == netlink_packet_core::NLMSG_ERROR {
                        return Ok(frame.acknowledgement()?.map_or(Ok(found), Err));
                    }
                    found = decode(&frame).map_err(|e| in_reading(reading, e))?;
                }
            }
        })
    }

    fn ask(&mut self, request: &Request, flags: u16) -> Result<u32, Error> {
        let sequence = self.next_sequences(1);
        let mut bytes = Vec::with_capacity(super::HEADER + request.body.len());
        request.append_to(&mut bytes, sequence, flags);
        self.send(&bytes)?;
        Ok(sequence)
    }
}

fn expect(frame: Frame<'_>, sequence: u32) -> Result<Frame<'_>, Error> {
    if frame.sequence == sequence {
        return Ok(frame);
    }
    Err(Error::Sequence { found: frame.sequence, first: sequence, last: sequence })
}

fn finish<T>(
    reading: &'static str,
    refusal: Option<Refusal>,
    found: Vec<T>,
    interrupted: bool,
) -> Result<Option<Vec<T>>, Error> {
    match refusal {
        Some(refusal) => Err(Error::Dump { reading, refusal }),
        None => Ok((!interrupted).then_some(found)),
    }
}

fn refused(reading: &'static str, frame: &Frame<'_>) -> Result<Error, Error> {
    Ok(match frame.acknowledgement()? {
        Some(refusal) => Error::Dump { reading, refusal },
        None => Error::malformed(format!("an acknowledgement instead of the {reading}")),
    })
}

fn in_reading(reading: &'static str, error: Malformed) -> Error {
    Error::Malformed { reading: Some(reading), what: error.0 }
}
