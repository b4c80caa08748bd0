//! HTTP connections: the layer that reads request heads before hyper changes only requests that need a change, and
//! hyper itself answers no request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_gateway::fuzzing::compare_heads;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fuzz_target!(|data: &[u8]| {
    // The first byte selects the protocol and the number of bytes that arrive at a time.
    let Some((how, bytes)) = data.split_first() else { return };
    let (http2, at_once) = (how & 0x80 != 0, usize::from(how & 0x7f) + 1);
    let connection = if http2 { [PREFACE, bytes].concat() } else { bytes.to_vec() };
    if let Err(difference) = compare_heads(&connection, at_once, http2) {
        panic!("{difference}");
    }
});
