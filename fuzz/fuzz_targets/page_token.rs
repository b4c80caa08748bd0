//! Page tokens: nothing opens but what was made for the same list.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tenant_gateway::{
    crypto::{MAX_PAGE_TOKEN_LENGTH, PageTokenKey},
    ports::PageTokens as _,
};
use tenant_gateway_fuzz::keyring;

/// Made once under the keyring of the targets, for [`CONTEXT`].
const GENUINE: &str = include_str!("../corpus_seed/page_token/genuine");
const CONTEXT: &str = "ListTenants applications/crm-sync";

static KEY: LazyLock<PageTokenKey> = LazyLock::new(|| {
    let keyring = keyring();
    PageTokenKey::new(&keyring, keyring.first_id()).expect("a key")
});

fuzz_target!(|text: &str| {
    if let Some(payload) = KEY.open(CONTEXT, text) {
        assert_eq!((text, payload.as_slice()), (GENUINE, &b"Cust12345"[..]));
    }
    // A list, and where its next page begins.
    let (context, payload) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(token) = KEY.seal(context, payload.as_bytes()) else {
        assert!(payload.len() > MAX_PAGE_TOKEN_LENGTH / 2);
        return;
    };
    assert!(token.len() <= MAX_PAGE_TOKEN_LENGTH);
    assert_eq!(KEY.open(context, &token).as_deref(), Some(payload.as_bytes()));
    assert_eq!(KEY.open(CONTEXT, &token).is_some(), context == CONTEXT);
    assert_eq!(KEY.open(context, GENUINE).is_some(), context == CONTEXT);
    // What was made is not taken with a piece missing or more behind it.
    assert!(KEY.open(context, &token[1..]).is_none());
    assert!(KEY.open(context, &format!("{token}A")).is_none());
});
