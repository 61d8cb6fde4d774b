//! ICMP and ICMPv6 echo as bytes (RFC 792, RFC 4443).

/// An echo request or reply, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// Type 128/129 with a pseudo-header checksum instead of 8/0.
    pub v6: bool,
    /// Which asker; the kernel rewrites it on datagram sockets.
    pub id: u16,
    /// Which of its requests.
    pub seq: u16,
}

const HEADER: usize = 8;

impl Echo {
    /// The request. The checksum of ICMPv6 is left to the kernel, which knows the addresses (RFC 3542 section 3.1).
    #[must_use]
    pub fn request(self, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![if self.v6 { 128 } else { 8 }, 0, 0, 0];
        packet.extend(self.id.to_be_bytes());
        packet.extend(self.seq.to_be_bytes());
        packet.extend(payload);
        if !self.v6 {
            let sum = internet_checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// The payload if `packet` is the reply to this request. `any_id`: the kernel chose the identifier.
    ///
    /// A raw IPv4 socket receives the IP header too; datagram and IPv6 sockets do not.
    #[must_use]
    pub fn reply(self, packet: &[u8], any_id: bool) -> Option<&[u8]> {
        let packet = if self.v6 { packet } else { strip_ipv4_header(packet)? };
        let header = packet.get(..HEADER)?;
        let is_reply = header[0] == if self.v6 { 129 } else { 0 } && header[1] == 0;
        let id = u16::from_be_bytes([header[4], header[5]]);
        let seq = u16::from_be_bytes([header[6], header[7]]);
        (is_reply && seq == self.seq && (any_id || id == self.id)).then(|| &packet[HEADER..])
    }
}

/// An ICMP message of type echo or echo reply starts with 8 or 0, an IPv4 header with 0x45 to 0x4f.
fn strip_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    if first >> 4 == 4 { packet.get(usize::from(first & 0x0f) * 4..) } else { Some(packet) }
}

/// The one's complement sum of RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let sum: u64 =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum();
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !(folded as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_v4_request() {
        let packet = Echo { v6: false, id: 0x1234, seq: 1 }.request(b"abc");
        assert_eq!(packet, [8, 0, 0x21, 0x68, 0x12, 0x34, 0, 1, b'a', b'b', b'c']);
        assert_eq!(internet_checksum(&packet), 0, "a packet with its checksum sums up to nothing");
    }

    #[test]
    fn a_reply_is_found_with_and_without_the_ip_header() {
        let echo = Echo { v6: false, id: 7, seq: 3 };
        let reply = [0, 0, 0, 0, 0, 7, 0, 3, 9];
        let mut raw = vec![0x46];
        raw.resize(24, 0);
        raw.extend(reply);
        assert_eq!(echo.reply(&reply, false), Some(&[9][..]));
        assert_eq!(echo.reply(&raw, false), Some(&[9][..]));
        assert_eq!(echo.reply(&reply[..7], false), None);
        assert_eq!(Echo { id: 8, ..echo }.reply(&reply, false), None);
        assert_eq!(Echo { id: 8, ..echo }.reply(&reply, true), Some(&[9][..]));
        assert_eq!(Echo { seq: 4, ..echo }.reply(&reply, true), None);
        assert_eq!(echo.reply(&echo.request(b""), false), None, "a request is no reply");
    }

    #[test]
    fn v6_has_types_of_its_own() {
        let echo = Echo { v6: true, id: 7, seq: 3 };
        assert_eq!(echo.request(b"x"), [128, 0, 0, 0, 0, 7, 0, 3, b'x']);
        assert_eq!(echo.reply(&[129, 0, 5, 5, 0, 7, 0, 3, b'x'], false), Some(&b"x"[..]));
    }
}
