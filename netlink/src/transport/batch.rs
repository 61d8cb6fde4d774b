//! Many messages, few datagrams, one result for each.

use super::{Acknowledge, Connection, Error, Refusal, Request, Socket, frames};

/// Well below the default send buffer of 208 KiB.
const CHUNK_BYTES: usize = 96 * 1024;

/// The messages of one datagram and what is known of their results.
struct Chunk {
    bytes: Vec<u8>,
    first_sequence: u32,
    first_index: usize,
    answers: Vec<Option<Result<(), Refusal>>>,
}

impl<S: Socket> Connection<S> {
    /// Sends all requests and returns the result of each, in their order.
    ///
    /// An error means that the results of the chunk under way are unknown and later chunks were not sent.
    pub(crate) fn batch(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<Result<(), Refusal>>, Error> {
        let mut requests = requests.into_iter().peekable();
        let mut results = Vec::with_capacity(requests.size_hint().0);
        while requests.peek().is_some() {
            let chunk = self.fill_chunk(&mut requests, results.len());
            results.extend(self.exchange(|connection| connection.deliver(chunk))?);
        }
        Ok(results)
    }

    fn fill_chunk(
        &mut self,
        requests: &mut std::iter::Peekable<impl Iterator<Item = Request>>,
        first_index: usize,
    ) -> Chunk {
        let first_sequence = self.next_sequences(0);
        let mut chunk = Chunk { bytes: Vec::new(), first_sequence, first_index, answers: Vec::new() };
        while let Some(request) = requests.next() {
            let sequence = self.next_sequences(1);
            let room = chunk.answers.len() + 1 < self.pace.messages;
            let last = !room
                || requests.peek().is_none_or(|next| {
                    chunk.bytes.len() + request.body.len() + next.body.len() + 2 * super::HEADER > CHUNK_BYTES
                });
            let acknowledge = last || self.pace.acknowledge == Acknowledge::Each;
            request.append_to(
                &mut chunk.bytes,
                sequence,
                if acknowledge { netlink_packet_core::NLM_F_ACK } else { 0 },
            );
            chunk.answers.push(None);
            if last {
                break;
            }
        }
        chunk
    }

    fn deliver(&mut self, mut chunk: Chunk) -> Result<Vec<Result<(), Refusal>>, Error> {
        self.send(&chunk.bytes)?;
        while !chunk.is_finished() {
            self.receive(self.timeout)?;
            for frame in frames(&self.buffer) {
                let frame = frame?;
                let place = chunk.place(frame.sequence)?;
                if frame.message_type == netlink_packet_core::NLMSG_ERROR {
                    let refusal = frame.acknowledgement()?;
                    chunk.answers[place] = Some(
                        refusal.map_or(Ok(()), |r| Err(Refusal { index: chunk.first_index + place, ..r })),
                    );
                }
            }
        }
        chunk.results(self.pace.acknowledge)
    }
}

impl Chunk {
    /// The kernel answers in order, and the last message always has an answer.
    fn is_finished(&self) -> bool {
        self.answers.last().is_some_and(Option::is_some)
    }

    fn place(&self, sequence: u32) -> Result<usize, Error> {
        let place = sequence.wrapping_sub(self.first_sequence) as usize;
        if place < self.answers.len() {
            return Ok(place);
        }
        let last = self.first_sequence.wrapping_add(self.answers.len() as u32 - 1);
        Err(Error::Sequence { found: sequence, first: self.first_sequence, last })
    }

    fn results(self, acknowledge: Acknowledge) -> Result<Vec<Result<(), Refusal>>, Error> {
        let missing = self.answers.iter().filter(|answer| answer.is_none()).count();
        if acknowledge == Acknowledge::Each && missing > 0 {
            let first = self.answers.iter().position(Option::is_none).unwrap_or_default();
            return Err(Error::Unanswered {
                missing,
                sent: self.answers.len(),
                first: self.first_index + first,
            });
        }
        // Before an answered last message, no answer means that the message was not refused.
        Ok(self.answers.into_iter().map(|answer| answer.unwrap_or(Ok(()))).collect())
    }
}
