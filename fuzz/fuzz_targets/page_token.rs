//! Page tokens: only a token that was sealed for the same list opens.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tenant_gateway::{
    crypto::{MAX_PAGE_TOKEN_LENGTH, PageTokenKey},
    ports::PageTokens as _,
};
use tenant_gateway_fuzz::keyring;

/// A token that was sealed with the fixture keyring, for [`CONTEXT`].
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
    // The context of a list, and the start of its next page.
    let (context, payload) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(token) = KEY.seal(context, payload.as_bytes()) else {
        assert!(payload.len() > MAX_PAGE_TOKEN_LENGTH / 2);
        return;
    };
    assert!(token.len() <= MAX_PAGE_TOKEN_LENGTH);
    assert_eq!(KEY.open(context, &token).as_deref(), Some(payload.as_bytes()));
    assert_eq!(KEY.open(CONTEXT, &token).is_some(), context == CONTEXT);
    assert_eq!(KEY.open(context, GENUINE).is_some(), context == CONTEXT);
    // A truncated or extended token does not open.
    assert!(KEY.open(context, &token[1..]).is_none());
    assert!(KEY.open(context, &format!("{token}A")).is_none());
});
