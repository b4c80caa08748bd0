//! JWK thumbprints of public keys (RFC 7638).

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Returns the SHA-256 thumbprint of an RSA key, in base64url. Numbers are big-endian without leading zero bytes.
pub(super) fn jwk_thumbprint(modulus: &[u8], exponent: &[u8]) -> String {
    let modulus = URL_SAFE_NO_PAD.encode(modulus);
    let exponent = URL_SAFE_NO_PAD.encode(exponent);
    // The required members in lexicographic order, without white space: RFC 7638, 3.
    let jwk = format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, jwk.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_the_thumbprint_of_the_rfc_example() {
        // RFC 7638, 3.1.
        let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWK\
                       RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicA\
                       taSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XP\
                       ksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let modulus = URL_SAFE_NO_PAD.decode(modulus).unwrap();
        let exponent = URL_SAFE_NO_PAD.decode("AQAB").unwrap();
        assert_eq!(
            jwk_thumbprint(&modulus, &exponent),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }
}
