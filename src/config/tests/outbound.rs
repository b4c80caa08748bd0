//! `[proxy]` and `[outbound]`.

use super::*;

#[test]
fn rejects_a_secret_in_the_proxy_uri_without_repeating_it() {
    for uri in ["http://user:hunter2@proxy:3128", "http://hunter2@proxy:3128", "http://@proxy:3128"]
    {
        let found = problems_of_section(&format!("[proxy]\nhttps = \"{uri}\""));
        assert_one(&found, "proxy.https: must not contain a user name or password");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn reports_proxy_problems_with_their_key() {
    for (section, wanted) in [
        ("https = \"proxy:3128\"", "proxy.https: must be the URI of an HTTP proxy"),
        ("https = \"socks5://proxy:1080\"", "proxy.https: is a SOCKS proxy"),
        ("http = \"http://proxy:3128\"", "proxy.http: unknown key; did you mean `https`?"),
        ("no_proxy = [\"a\"]", "proxy.https: is missing"),
        (
            "https = \"http://proxy\"\nno_proxy = [\"a\", \"b c\"]",
            "proxy.no_proxy[1]: must be \"*\"",
        ),
        ("https = \"http://proxy\"\nno_proxy = \"a\"", "proxy.no_proxy: must be a list"),
        ("https = \"http://proxy\"\nusername = \"a:b\"", "proxy.username: must not be empty"),
        ("https = \"http://proxy\"\nusername = \"\"", "proxy.username: must not be empty"),
        (
            "https = \"http://proxy\"\npassword_file = \"client-secret\"",
            "has no effect without proxy.username",
        ),
        (
            "https = \"http://proxy\"\nusername = \"a\"\npassword = \"hunter2\"",
            "did you mean `password_file`?",
        ),
    ] {
        let found = problems_of_section(&format!("[proxy]\n{section}"));
        assert_one(&found, wanted);
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn reads_the_proxy_password_like_other_secrets() {
    let text = "[proxy]\nhttps = \"http://proxy:3128\"\nusername = \"gw\"\npassword_file = \"proxy-password\"";
    let folder = Folder::new(&format!("{text}\n{LEAST}"));
    let error = folder.load_with_secrets().unwrap_err();
    assert!(error.to_string().contains("proxy.password_file"), "{error}");
    folder.write("proxy-password", "hunter3\n");
    let loaded = folder.load_with_secrets().unwrap();
    assert_eq!(loaded.secrets.proxy_password.unwrap().expose_secret(), "hunter3");
    let proxy = loaded.config.proxy.unwrap();
    assert_eq!(
        (proxy.address.to_string().as_str(), proxy.source),
        ("http://proxy:3128", "[proxy]")
    );
    let read = folder.load().unwrap().config.read_each_secret();
    assert!(read.iter().any(|secret| secret.source.key() == "proxy.password_file"));
}

#[test]
fn empty_section_means_no_proxy() {
    assert_eq!(loaded(&format!("[proxy]\n{LEAST}")).config.proxy, None);
}

#[test]
fn nat64_prefixes_must_have_a_length_of_rfc_6052() {
    for (prefixes, wanted) in [
        ("[\"fd00:64::/95\"]", "outbound.nat64_prefixes[0]: must be an IPv6 prefix of 32"),
        ("[\"fd00:64::/96\", \"10.0.0.0/8\"]", "outbound.nat64_prefixes[1]: must be an IPv6"),
        ("\"fd00:64::/96\"", "outbound.nat64_prefixes: must be a list"),
    ] {
        let found = problems_of_section(&format!("[outbound]\nnat64_prefixes = {prefixes}"));
        assert_one(&found, wanted);
    }
    let config =
        loaded(&format!("[outbound]\nnat64_prefixes = [\"fd00:64::/96\"]\n{LEAST}")).config;
    assert_eq!(config.outbound.nat64_prefixes().len(), 1);
}
