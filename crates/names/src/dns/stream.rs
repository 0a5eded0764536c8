// SPDX-License-Identifier: Apache-2.0
//! DNS messages in a TCP stream: each follows its length in two bytes (RFC 1035 section 4.2.2).

/// Maximum bytes of one query. A question and its OPT record take less than 600, without padding.
const MAX_QUERY_BYTES: u16 = 4096;
/// Maximum bytes that wait for [`DnsStreamDecoder::next_message`].
const MAX_BUFFERED_BYTES: usize = 32 * 1024;
const LENGTH_BYTES: usize = 2;

/// Cuts the queries of one TCP connection out of its stream.
///
/// At most 32 KiB wait inside: read all messages after each push of at most 16 KiB. An idle decoder
/// keeps no memory. After an error the stream has lost its framing, so close the connection.
#[derive(Debug, Default)]
pub struct DnsStreamDecoder {
    buffer: Vec<u8>,
}

/// An error in the framing of DNS messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DnsStreamError {
    /// A message is longer than the limit.
    #[error("a DNS message of {bytes} bytes over TCP is longer than the limit of {limit}")]
    MessageTooLong {
        /// The length of the message.
        bytes: usize,
        /// The limit.
        limit: u16,
    },
    /// More bytes were pushed than a decoder keeps.
    #[error("more than {MAX_BUFFERED_BYTES} bytes of DNS messages wait for their decoding")]
    BufferFull,
}

impl DnsStreamDecoder {
    /// Creates a decoder for a new connection.
    pub const fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    /// Appends bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DnsStreamError> {
        if self.buffer.len().saturating_add(bytes.len()) > MAX_BUFFERED_BYTES {
            return Err(DnsStreamError::BufferFull);
        }
        self.buffer.extend(bytes);
        Ok(())
    }

    /// Removes and returns the next message, if it is complete.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, DnsStreamError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u16::from_be_bytes(*length);
        if length > MAX_QUERY_BYTES {
            return Err(DnsStreamError::MessageTooLong {
                bytes: length.into(),
                limit: MAX_QUERY_BYTES,
            });
        }
        let Some(message) = rest.get(..length.into()).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        let end = LENGTH_BYTES.saturating_add(message.len());
        self.buffer.drain(..end.min(self.buffer.len()));
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        Ok(Some(message))
    }
}

/// Puts the length of a message before it. Replies of the forwarder always fit.
pub fn encode_stream_message(message: &[u8]) -> Result<Vec<u8>, DnsStreamError> {
    let too_long = DnsStreamError::MessageTooLong {
        bytes: message.len(),
        limit: u16::MAX,
    };
    let Ok(length) = u16::try_from(message.len()) else {
        return Err(too_long);
    };
    let mut framed = Vec::with_capacity(LENGTH_BYTES.saturating_add(message.len()));
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    Ok(framed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_are_errors() {
        let mut decoder = DnsStreamDecoder::new();
        decoder.push(&[0x10]).unwrap();
        assert_eq!(decoder.next_message(), Ok(None));
        decoder.push(&[0x01]).unwrap();
        let too_long = DnsStreamError::MessageTooLong {
            bytes: 4097,
            limit: 4096,
        };
        assert_eq!(decoder.next_message(), Err(too_long));

        let mut decoder = DnsStreamDecoder::new();
        decoder.push(&vec![0; 32 * 1024]).unwrap();
        assert_eq!(decoder.push(&[0]), Err(DnsStreamError::BufferFull));

        assert!(encode_stream_message(&vec![0; 65_535]).is_ok());
        assert!(encode_stream_message(&vec![0; 65_536]).is_err());
    }

    proptest! {
        #[test]
        fn messages_survive_any_segmentation(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            chunk in 1_usize..700,
        ) {
            let stream: Vec<u8> = messages
                .iter()
                .flat_map(|message| encode_stream_message(message).unwrap())
                .collect();
            let mut decoder = DnsStreamDecoder::new();
            let mut decoded = Vec::new();
            for chunk in stream.chunks(chunk) {
                decoder.push(chunk).unwrap();
                while let Some(message) = decoder.next_message().unwrap() {
                    decoded.push(message);
                }
            }
            prop_assert_eq!(decoded, messages);
            prop_assert_eq!(decoder.buffer.capacity(), 0);
        }
    }
}
