//! The pages of the sign-in: HTML forms that work without scripts.
//!
//! The documentation of the crate lists their fields and ids.
//!
//! The layout is inferred. The choice of a tenant and the approval are documented.

use std::fmt::Write as _;

use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS,
};

use crate::answer::Answer;
use crate::platform::Platform;
use crate::random;

/// The parts that all pages of a sign-in share.
pub(super) struct SignInPage {
    /// The address that the form is sent to.
    pub(super) action: String,
    /// The signed state of the sign-in.
    pub(super) request: String,
    /// The name of the application.
    pub(super) application: String,
}

/// An option of a list: its value and its displayed text.
pub(super) struct SelectOption {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) selected: bool,
}

impl SignInPage {
    pub(super) fn user_page(&self, platform: &Platform, users: &[SelectOption]) -> Answer {
        let lead = format!("<p>to use <strong>{}</strong></p>", escape(&self.application));
        let fields = select("user", "Who are you?", users);
        let form = self.form("sign-in", &fields, &buttons(None));
        page(platform, StatusCode::OK, "Sign in", &format!("{lead}{form}"))
    }

    pub(super) fn tenant_page(&self, platform: &Platform, tenants: &[SelectOption]) -> Answer {
        let lead = format!("<p>to use <strong>{}</strong> in</p>", escape(&self.application));
        let fields = select("tenant", "Which tenant?", tenants);
        let form = self.form("choose-tenant", &fields, &buttons(None));
        page(platform, StatusCode::OK, "Choose a tenant", &format!("{lead}{form}"))
    }

    /// Returns the approval page: for the tenant if the person is an administrator, else for the
    /// person.
    pub(super) fn approval_page(
        &self,
        platform: &Platform,
        (user, tenant): (&str, &str),
        for_tenant: bool,
    ) -> Answer {
        let (application, user) = (escape(&self.application), escape(user));
        let scope = if for_tenant { "the data of everybody in it" } else { "it as you" };
        let lead = format!(
            "<p>You are <strong id=\"signed-in\">{user}</strong> in \
             <strong id=\"in-tenant\">{tenant}</strong>.</p>\
             <p><strong>{application}</strong> wants to use {scope}.</p>",
            tenant = escape(tenant),
        );
        let form = self.form("approval", "", &buttons(Some("I approve")));
        page(platform, StatusCode::OK, "Approve", &format!("{lead}{form}"))
    }

    fn form(&self, id: &str, fields: &str, buttons: &str) -> String {
        format!(
            "<form method=\"post\" id=\"{id}\" action=\"{action}\">{request}{fields}\
             <p>{buttons}</p></form>",
            action = escape(&self.action),
            request = hidden("request", &self.request),
        )
    }
}

/// Returns a page whose form posts the response to the application.
pub(super) fn form_post(platform: &Platform, target: &str, values: &[(&str, &str)]) -> Answer {
    let fields: String = values.iter().map(|(name, value)| hidden(name, value)).collect();
    let body = format!(
        "<form method=\"post\" id=\"back\" action=\"{}\">{fields}\
         <p><button type=\"submit\" id=\"continue\">Continue</button></p></form>",
        escape(target),
    );
    page(platform, StatusCode::OK, "Back to the application", &body)
}

/// Returns an error page as `SuperID` shows it (documented; its status is inferred).
pub(super) fn error(platform: &Platform, status: StatusCode, text: &str) -> Answer {
    // If there is no randomness, the page has no request id.
    let id = random::alphanumeric(16).unwrap_or_default();
    let body = format!(
        "<p id=\"error\" role=\"alert\">{}</p>\
         <p>Request ID: <code id=\"request-id\">{id}</code></p>",
        escape(text),
    );
    page(platform, status, "Sign-in failed", &body)
}

pub(super) fn page(platform: &Platform, status: StatusCode, title: &str, body: &str) -> Answer {
    platform.counts.update_sign_ins(|counts| counts.pages += 1);
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:1rem/1.5 sans-serif;max-width:30rem;margin:3rem auto;padding:0 1rem}}\
         select,button{{font:inherit;padding:.4rem;margin:.2rem .4rem .2rem 0}}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>\n"
    );
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    Answer::html_page(status, &page)
        .with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .with(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))
        .with(REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
        .with(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"))
}

/// Returns the buttons of a page: continue or approve, and refuse.
fn buttons(approve: Option<&str>) -> String {
    let primary = match approve {
        Some(text) => format!(
            "<button type=\"submit\" id=\"approve\" name=\"decision\" value=\"approve\">{text}\
             </button>"
        ),
        None => "<button type=\"submit\" id=\"continue\">Continue</button>".to_owned(),
    };
    let refuse = if approve.is_some() { "I refuse" } else { "Cancel" };
    format!(
        "{primary}<button type=\"submit\" id=\"refuse\" name=\"decision\" value=\"refuse\">{refuse}\
         </button>"
    )
}

fn select(name: &str, label: &str, choices: &[SelectOption]) -> String {
    let mut options = String::new();
    for choice in choices {
        let selected = if choice.selected { " selected" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(
            options,
            "<option value=\"{}\"{selected}>{}</option>",
            escape(&choice.value),
            escape(&choice.label),
        );
    }
    format!(
        "<p><label for=\"{name}\">{label}</label><br>\
         <select name=\"{name}\" id=\"{name}\">{options}</select></p>"
    )
}

fn hidden(name: &str, value: &str) -> String {
    format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", escape(name), escape(value))
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, letter| {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            other => escaped.push(other),
        }
        escaped
    })
}
