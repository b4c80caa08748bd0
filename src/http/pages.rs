//! Pages for people: plain HTML that works without scripts, at any width, with a keyboard and with screen readers.
//!
//! Only the methods of [`Page`] write markup, and each escapes its arguments.

mod escape;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use self::escape::escape;

/// The style of all pages. The contrast of text and button is above 7:1.
const STYLE: &str = "*{box-sizing:border-box}\
body{margin:0;background:#fff;color:#1a1a1a;font:1.0625rem/1.6 system-ui,sans-serif}\
main{max-width:38rem;margin:0 auto;padding:2rem 1rem;overflow-wrap:anywhere}\
h1{font-size:1.5rem;line-height:1.3;margin:0 0 1rem;text-wrap:balance}\
dl{margin:1rem 0;padding:1rem;border:1px solid #767676;border-radius:.25rem}\
dt{font-weight:600}dd{margin:0 0 .75rem}dd:last-child{margin-bottom:0}\
a{color:#0b4f8a}\
button{font:inherit;font-weight:600;padding:.75rem 1.25rem;border:2px solid #0b4f8a;border-radius:.25rem;\
background:#0b4f8a;color:#fff;cursor:pointer}\
:focus-visible{outline:3px solid #1a1a1a;outline-offset:3px}";

/// The SHA-256 of [`STYLE`] for the content security policy, which permits no other style.
const STYLE_HASH: &str = "sha256-3dlQpzuO0Sa/G3y5DZJm3WI67qjF7lv73C2FAhkPTsw=";

/// The permitted form targets. Browsers apply them to all following redirects, too: SuperOffice's sign-in pages, which
/// redirect to various hosts, the callback, and the return URI. Plain HTTP is only permitted on this machine.
const FORMS: &str = "'self' https: http://127.0.0.1:* http://localhost:*";

/// An HTML page.
#[derive(Debug, Clone)]
pub(super) struct Page {
    status: StatusCode,
    title: &'static str,
    body: String,
    has_form: bool,
}

impl Page {
    /// Creates a page with a title, which is also its heading.
    pub(super) fn new(status: StatusCode, title: &'static str) -> Self {
        Self { status, title, body: String::new(), has_form: false }
    }

    /// Adds a paragraph.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.body.extend(["<p>", &escape(text), "</p>\n"]);
        self
    }

    /// Adds a list of names and values.
    pub(super) fn facts<'a>(mut self, facts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        self.body.push_str("<dl>\n");
        for (name, value) in facts {
            self.body.extend(["<dt>", &escape(name), "</dt><dd>", &escape(value), "</dd>\n"]);
        }
        self.body.push_str("</dl>\n");
        self
    }

    /// Adds a button that posts to the page's own address.
    pub(super) fn button(mut self, label: &str) -> Self {
        let button = "<form method=\"post\"><button type=\"submit\">";
        self.body.extend([button, &escape(label), "</button></form>\n"]);
        self.has_form = true;
        self
    }

    /// Adds a link. The caller must have validated the address.
    pub(super) fn link(mut self, uri: &str, label: &str) -> Self {
        self.body.extend(["<p><a href=\"", &escape(uri), "\">", &escape(label), "</a></p>\n"]);
        self
    }

    fn html(&self) -> String {
        let Self { title, body, .. } = self;
        let title = escape(title);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
             {body}</main>\n</body>\n</html>\n"
        )
    }

    fn policy(&self) -> String {
        let forms = if self.has_form { FORMS } else { "'none'" };
        format!(
            "default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action {forms}; \
             frame-ancestors 'none'"
        )
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        // The policy is always a valid header value. If it were not, the listener's strict default would apply.
        let policy = HeaderValue::from_str(&self.policy()).ok();
        let mut response = (self.status, self.html()).into_response();
        let headers = response.headers_mut();
        // Replaces the content type of the text body; `extend` would add a second one.
        headers.insert(header::CONTENT_TYPE, html);
        if let Some(policy) = policy {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use proptest::prelude::*;

    use super::*;

    fn page(text: &str) -> Page {
        Page::new(StatusCode::OK, "Title")
            .text(text)
            .facts([(text, text)])
            .button(text)
            .link(text, text)
    }

    /// Returns the tags of a page.
    fn tags(html: &str) -> Vec<&str> {
        let begins = html.match_indices('<').map(|(at, _)| &html[at..]);
        begins.map(|rest| &rest[..rest.find([' ', '>']).unwrap()]).collect()
    }

    #[test]
    fn the_content_security_policy_permits_only_our_style() {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
        assert_eq!(STYLE_HASH, format!("sha256-{}", BASE64_STANDARD.encode(digest)));
        let policy = Page::new(StatusCode::OK, "Title").policy();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(policy.contains("form-action 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn a_page_is_accessible_at_any_width() {
        let html = page("x").html();
        for part in [
            "<html lang=\"en\">",
            "<title>Title</title>",
            "<h1>Title</h1>",
            "name=\"viewport\"",
            ":focus-visible{outline:3px",
            "overflow-wrap:anywhere",
        ] {
            assert_eq!(html.matches(part).count(), 1, "{part}");
        }
        assert_eq!(html.matches("<main>").count(), 1);
        assert!(!html.contains("<script") && !html.contains("style=\""));
    }

    proptest! {
        #[test]
        fn nothing_is_reflected_unescaped(text in "\\PC{0,40}|[<>&\"'=/a-z ]{0,40}") {
            let (html, plain) = (page(&text).html(), page("x").html());
            prop_assert_eq!(tags(&html), tags(&plain));
            // No attribute ends early: the number of quotes is unchanged.
            prop_assert_eq!(html.matches('"').count(), plain.matches('"').count());
        }
    }
}
