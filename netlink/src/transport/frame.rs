//! The messages inside one datagram.

use netlink_packet_core::{NLA_HEADER_SIZE, NetlinkBuffer};

use super::error::{Error, Refusal};
use crate::attributes;

const NLMSGERR_ATTR_MSG: u16 = 1;

/// One message of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub message_type: u16,
    pub flags: u16,
    pub sequence: u32,
    /// The socket whose request caused this message, zero for the kernel itself.
    pub port: u32,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// What a `NLMSG_ERROR` says: `None` is an acknowledgement.
    pub(crate) fn acknowledgement(&self) -> Result<Option<Refusal>, Error> {
        let code = self.leading_code()?;
        if code == 0 {
            return Ok(None);
        }
        let original =
            self.payload.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes) as usize;
        // The refused request follows, its payload only where the kernel did not cap it.
        let echoed = if self.has(netlink_packet_core::NLM_F_CAPPED) {
            super::HEADER
        } else {
            original.max(super::HEADER)
        };
        Ok(Some(self.refusal(code, 4 + echoed.next_multiple_of(4))))
    }

    /// What a `NLMSG_DONE` says: in strict mode a dump fails inside it.
    pub(crate) fn completion(&self) -> Result<Option<Refusal>, Error> {
        // Some dumps end without a code, which netlink(7) allows.
        if self.payload.is_empty() {
            return Ok(None);
        }
        let code = self.leading_code()?;
        Ok((code < 0).then(|| self.refusal(code, 4)))
    }

    fn leading_code(&self) -> Result<i32, Error> {
        let bytes = self.payload.get(..4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(i32::from_ne_bytes).ok_or_else(|| Error::malformed("a result without its code"))
    }

    fn refusal(&self, code: i32, text_at: usize) -> Refusal {
        let text =
            if self.has(netlink_packet_core::NLM_F_ACK_TLVS) { self.extended_text(text_at) } else { None };
        Refusal { index: 0, errno: code.saturating_neg(), message: text }
    }

    fn extended_text(&self, at: usize) -> Option<String> {
        let rest = self.payload.get(at..).filter(|rest| rest.len() > NLA_HEADER_SIZE)?;
        let attribute =
            attributes::nested(rest).find_map(|a| a.ok().filter(|a| a.kind() == NLMSGERR_ATTR_MSG))?;
        let text = String::from_utf8_lossy(attribute.value());
        Some(text.trim_end_matches('\0').to_owned()).filter(|text| !text.is_empty())
    }
}

/// The messages of a datagram, in order; ends after the first one that is broken.
pub(crate) fn frames(mut datagram: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, Error>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        match NetlinkBuffer::new_checked(datagram) {
            Ok(message) => {
                let end = (message.length() as usize).next_multiple_of(4).min(datagram.len());
                datagram = &datagram[end..];
                Some(Ok(Frame {
                    message_type: message.message_type(),
                    flags: message.flags(),
                    sequence: message.sequence_number(),
                    port: message.port_number(),
                    payload: message.payload(),
                }))
            }
            Err(error) => {
                datagram = &[];
                Some(Err(Error::malformed(error.to_string())))
            }
        }
    })
}
