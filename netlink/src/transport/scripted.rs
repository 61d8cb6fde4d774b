//! A socket that plays a script: what the kernel would have to do to provoke each failure.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

use super::{Pace, Request, Socket, frames};

const NLM_F_CAPPED: u16 = netlink_packet_core::NLM_F_CAPPED;
const NLM_F_ACK_TLVS: u16 = netlink_packet_core::NLM_F_ACK_TLVS;

/// One thing that happens on the kernel's side.
#[derive(Debug, Clone)]
pub(super) enum Scene {
    /// The next receive gets these messages in one datagram.
    Answer(Vec<Answer>),
    /// The next receive gets these bytes.
    Bytes(Vec<u8>),
    /// The next receive fails.
    ReceiveError(Errno),
    /// The next receive reports a longer datagram than it delivers.
    Truncated,
    /// The next receive reports the end of the stream.
    EndOfStream,
}

/// One message of the kernel. `to` is the place of the request in the latest datagram.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub message_type: u16,
    pub flags: u16,
    pub to: u32,
    pub payload: Vec<u8>,
}

impl Answer {
    pub(super) fn acknowledgement(to: u32) -> Self {
        Self::result(to, 0, None)
    }

    pub(super) fn refusal(to: u32, errno: Errno, text: Option<&str>) -> Self {
        Self::result(to, -(errno as i32), text)
    }

    fn result(to: u32, code: i32, text: Option<&str>) -> Self {
        let mut payload = code.to_ne_bytes().to_vec();
        payload.extend([20, 0, 0, 0]);
        payload.extend([0; 12]);
        let mut flags = NLM_F_CAPPED;
        if let Some(text) = text {
            flags |= NLM_F_ACK_TLVS;
            payload.extend(text_attribute(text));
        }
        Self { message_type: netlink_packet_core::NLMSG_ERROR, flags, to, payload }
    }

    pub(super) fn done(code: i32, text: Option<&str>) -> Self {
        let mut payload = code.to_ne_bytes().to_vec();
        let mut flags = netlink_packet_core::NLM_F_MULTIPART;
        if let Some(text) = text {
            flags |= NLM_F_ACK_TLVS;
            payload.extend(text_attribute(text));
        }
        Self { message_type: netlink_packet_core::NLMSG_DONE, flags, to: 0, payload }
    }

    pub(super) fn object(message_type: u16, payload: &[u8]) -> Self {
        let flags = netlink_packet_core::NLM_F_MULTIPART;
        Self { message_type, flags, to: 0, payload: payload.to_vec() }
    }

    pub(super) fn with_flag(self, flag: u16) -> Self {
        Self { flags: self.flags | flag, ..self }
    }
}

fn text_attribute(text: &str) -> Vec<u8> {
    let length = 4 + text.len() + 1;
    let mut bytes = u16::try_from(length).unwrap().to_ne_bytes().to_vec();
    bytes.extend(1_u16.to_ne_bytes());
    bytes.extend(text.as_bytes());
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The socket. When its script is over, nothing more comes.
#[derive(Debug)]
pub(super) struct Scripted {
    pub pace: Pace,
    pub scenes: VecDeque<Scene>,
    pub send_error: Option<Errno>,
    pub take_at_most: usize,
    /// Sequence numbers of every message of every datagram that was sent, and whether each asked for an
    /// acknowledgement.
    pub sent: Vec<Vec<(u32, bool)>>,
    /// Answers every message that asks, with a refusal for the given global places, once the script is over.
    pub refuse: Option<fn(usize) -> bool>,
}

impl Scripted {
    pub(super) fn new(pace: Pace, scenes: impl IntoIterator<Item = Scene>) -> Self {
        Self {
            pace,
            scenes: scenes.into_iter().collect(),
            send_error: None,
            take_at_most: usize::MAX,
            sent: Vec::new(),
            refuse: None,
        }
    }

    fn render(&self, answers: &[Answer]) -> Vec<u8> {
        let first =
            self.sent.last().and_then(|datagram| datagram.first()).map_or(0, |(sequence, _)| *sequence);
        let mut bytes = Vec::new();
        for answer in answers {
            let request = Request {
                message_type: answer.message_type,
                flags: answer.flags,
                body: answer.payload.clone(),
            };
            request.append_to(&mut bytes, first.wrapping_add(answer.to), 0);
        }
        bytes
    }

    fn play_kernel(&mut self, refuse: fn(usize) -> bool) {
        let before: usize = self.sent.iter().rev().skip(1).map(Vec::len).sum();
        let latest = self.sent.last().cloned().unwrap_or_default();
        let answers = latest.iter().enumerate().filter_map(|(place, (_, asked))| {
            let to = u32::try_from(place).unwrap();
            if refuse(before + place) {
                return Some(Answer::refusal(to, Errno::EEXIST, Some("exists")));
            }
            asked.then(|| Answer::acknowledgement(to))
        });
        let scenes: Vec<_> = answers.map(|answer| Scene::Answer(vec![answer])).collect();
        self.scenes.extend(scenes);
    }
}

impl Socket for Scripted {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(error) = self.send_error {
            return Err(error.into());
        }
        let messages = frames(bytes).map(|frame| frame.expect("we send whole messages"));
        self.sent.push(messages.map(|f| (f.sequence, f.has(netlink_packet_core::NLM_F_ACK))).collect());
        if let Some(refuse) = self.refuse {
            self.play_kernel(refuse);
        }
        Ok(bytes.len().min(self.take_at_most))
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, _timeout: Duration) -> io::Result<usize> {
        match self.scenes.pop_front() {
            None => Err(Errno::EAGAIN.into()),
            Some(Scene::ReceiveError(error)) => Err(error.into()),
            Some(Scene::EndOfStream) => Ok(0),
            Some(Scene::Truncated) => {
                buffer.extend([0; 16]);
                Ok(100_000)
            }
            Some(Scene::Bytes(bytes)) => {
                buffer.extend(&bytes);
                Ok(bytes.len())
            }
            Some(Scene::Answer(answers)) => {
                let bytes = self.render(&answers);
                buffer.extend(&bytes);
                Ok(bytes.len())
            }
        }
    }

    fn pace(&self) -> Pace {
        self.pace
    }
}
