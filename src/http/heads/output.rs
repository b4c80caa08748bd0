//! The output of the parsers of heads.

/// The output for the bytes of one read.
pub(super) struct Output<'a> {
    /// The length of the start of the input that passes in place.
    pub(super) kept: usize,
    /// Whether no bytes have been removed or inserted yet.
    pub(super) in_place: bool,
    /// The bytes that pass after the start of the input.
    pub(super) ready: &'a mut Vec<u8>,
}

impl Output<'_> {
    /// Passes the next bytes of the input unchanged.
    pub(super) fn keep(&mut self, input: &[u8]) {
        if self.in_place {
            self.kept += input.len();
        } else {
            self.ready.extend_from_slice(input);
        }
    }

    /// Passes other bytes instead of the next bytes of the input.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.in_place = false;
        self.ready.extend_from_slice(bytes);
    }

    /// Removes the next bytes of the input, or holds them.
    pub(super) fn drop_input(&mut self) {
        self.in_place = false;
    }
}
