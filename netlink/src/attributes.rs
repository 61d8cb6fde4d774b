//! Reading attributes: only those that our types model are decoded.
//!
//! A dump shows everybody's objects. Decoding what we do not use would let an exotic device or route of
//! somebody else, or a newer kernel, break the reading of our own.

use netlink_packet_core::{DecodeError, NlaBuffer, NlasIterator};

/// A message of the kernel that does not have the shape that it must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub String);

impl From<DecodeError> for Malformed {
    fn from(error: DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// The attributes after a fixed header of `header` bytes.
pub(crate) fn after(
    payload: &[u8],
    header: usize,
) -> Result<impl Iterator<Item = Result<NlaBuffer<&[u8]>, Malformed>>, Malformed> {
    let rest = payload
        .get(header..)
        .ok_or_else(|| Malformed(format!("{} bytes where a header has {header}", payload.len())))?;
    Ok(nested(rest))
}

/// The attributes inside the value of another one.
pub(crate) fn nested(value: &[u8]) -> impl Iterator<Item = Result<NlaBuffer<&[u8]>, Malformed>> {
    NlasIterator::new(value).map(|attribute| attribute.map_err(Malformed::from))
}

/// The attributes of the wanted kinds, decoded by the type that belongs to the message.
pub(crate) fn wanted<'a, A>(
    payload: &'a [u8],
    header: usize,
    kinds: &[u16],
    decode: impl Fn(&NlaBuffer<&'a [u8]>) -> Result<A, DecodeError>,
) -> Result<Vec<A>, Malformed> {
    let mut found = Vec::with_capacity(kinds.len());
    for attribute in after(payload, header)? {
        let attribute = attribute?;
        if kinds.contains(&attribute.kind()) {
            found.push(decode(&attribute)?);
        }
    }
    Ok(found)
}
