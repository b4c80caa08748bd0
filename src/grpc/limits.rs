//! The limits that the listener, its layer and its handlers share.

/// The maximum message size, for requests and answers. A page of a thousand tenants is large.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The maximum message size of Web API calls: a whole body and its headers.
pub(super) const MAX_CALL_BYTES: usize = MAX_MESSAGE_BYTES + 128 * 1024;

/// The maximum request size of a service that needs no credential. Otherwise, 4 KiB of gzip from any client would
/// expand to 4 MiB.
pub(super) const MAX_PUBLIC_MESSAGE_BYTES: usize = 16 * 1024;

/// The bytes that a client may send before the gateway has read them, on one stream.
pub(super) const STREAM_WINDOW: u32 = 64 * 1024;

/// The request encodings that every service accepts. Answers are never compressed: they are small, and the length of a
/// compressed answer with a secret and text of the caller's choice would leak the secret (the BREACH attack).
pub(super) const ACCEPTED_ENCODINGS: &str = "identity,gzip";

/// Limits the message sizes of a service and accepts gzip. The limit also stops the decompression.
macro_rules! with_limits {
    ($service:expr, $max_request_bytes:expr) => {
        $service
            .accept_compressed(::tonic::codec::CompressionEncoding::Gzip)
            .max_decoding_message_size($max_request_bytes)
            .max_encoding_message_size(
                $crate::grpc::limits::MAX_MESSAGE_BYTES.max($max_request_bytes),
            )
    };
}

pub(super) use with_limits;
