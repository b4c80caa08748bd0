//! The PEM format.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The line length that PEM prescribes.
const PEM_LINE: usize = 64;

pub(super) fn write_pem(label: &str, der: &[u8]) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (position, letter) in STANDARD.encode(der).chars().enumerate() {
        if position > 0 && position % PEM_LINE == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem + &format!("\n-----END {label}-----\n")
}
