//! Limits of request heads.

/// The maximum size of a request head. Over HTTP/2, each field counts 32 extra bytes (RFC 9113 section 6.5.2).
pub(in crate::http) const MAX_HEAD_BYTES: usize = 32 * 1024;

/// The maximum number of header lines of an HTTP/1.1 request.
pub(super) const MAX_HEADER_LINES: usize = 100;

/// The number of bytes that wait for hyper above which no further HTTP/2 frame is read.
pub(super) const MAX_READY_BYTES: usize = 64 * 1024;
