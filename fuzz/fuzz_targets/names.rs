//! Resource names: an accepted name renders as the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret as _;
use tenant_gateway::domain::{
    ApplicationId, AssociateId, AssociateName, AssociateSelector, ContextIdentifier, ListScope,
    SystemUserToken, TenantName, TenantSelector, application_name,
};

fuzz_target!(|text: &str| {
    let name = text.parse::<TenantName>();
    if let Ok(name) = &name {
        assert_eq!(name.to_string(), text);
    }
    match text.parse::<TenantSelector>() {
        Ok(TenantSelector { application: Some(application), tenant }) => {
            assert_eq!(name, Ok(TenantName { application, tenant }));
        }
        Ok(TenantSelector { application: None, tenant }) => {
            assert_eq!(text, format!("applications/-/tenants/{tenant}"));
            assert!(name.is_err());
        }
        Err(_) => assert!(name.is_err()),
    }
    let associate = text.parse::<AssociateName>();
    if let Ok(name) = &associate {
        assert_eq!(name.to_string(), text);
    }
    match text.parse::<AssociateSelector>() {
        Ok(AssociateSelector { tenant, associate: id }) => {
            assert_eq!(associate.is_ok(), tenant.application.is_some());
            assert!(text.ends_with(&format!("/associates/{id}")));
        }
        Err(_) => assert!(associate.is_err()),
    }
    if let Ok(id) = text.parse::<AssociateId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = application_name(text) {
        assert_eq!(text, format!("applications/{id}"));
        assert_eq!(text.parse(), Ok(ListScope::Application(id)));
    } else {
        assert_eq!(text.parse::<ListScope>().is_ok(), text.is_empty());
    }
    if let Ok(id) = text.parse::<ApplicationId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(tenant) = text.parse::<ContextIdentifier>() {
        assert_eq!(tenant.to_string(), text);
    }
    if let Ok(token) = SystemUserToken::new(&text.into()) {
        let token = token.secret().expose_secret();
        assert_eq!(token, text.trim());
        assert!(!token.is_empty() && !token.contains(char::is_control));
    }
});
