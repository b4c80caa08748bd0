//! Web API paths: policies decide on the normal form, and the original bytes are sent. Both must mean the same path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tenant_gateway::domain::{ApiPath, credential_operation};

fuzz_target!(|text: &str| {
    let Ok(path) = ApiPath::parse(text) else { return };
    let (decided, sent) = (path.normal_form(), path.request_target());
    assert!(decided == "/api" || decided.starts_with("/api/"));
    assert!(!decided.contains("//") && !decided.contains(['\\', ';']));
    assert!(!decided.chars().any(char::is_control) && !decided.ends_with('/'));
    assert!(decided.split('/').all(|segment| segment != "." && segment != ".."));
    // The path that is sent has the same normal form, also after percent-decoding and in any case.
    assert_eq!(ApiPath::parse(&format!("/api{sent}")).as_ref(), Ok(&path));
    let (sent, query) = sent.split_once('?').unwrap_or((sent, ""));
    if text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>`".contains(&byte)) {
        assert!(text.ends_with(path.request_target()));
    }
    assert!(sent.is_ascii() && query.is_ascii());
    for other in
        [sent.to_uppercase(), sent.to_lowercase(), format!("{}/", sent.trim_end_matches('/'))]
    {
        let other = ApiPath::parse(&format!("/api{other}")).unwrap();
        assert_eq!(other.normal_form(), decided);
    }
    let _ = credential_operation("GET", decided);
});
