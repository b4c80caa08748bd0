//! Users who sign in, and a minimal browser.

use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use superoffice_sandbox::people::{Associate, Person};
use superoffice_sandbox::{ApiHost, SignIn, SignInRules};

use crate::fixture::{CLIENT, Fixture, ONE, SECRET, TWO};

pub(crate) const REDIRECT: &str = "https://app.example/Callback";
/// An administrator of [`ONE`].
pub(crate) const ADMIN: &str = "Anna.Admin@example.com";
pub(crate) const ADMIN_ID: u32 = 501;
/// An employee of [`ONE`] and [`TWO`] without rights.
pub(crate) const EMPLOYEE: &str = "erik.o'brien@example.com";
pub(crate) const EMPLOYEE_ID: u32 = 502;
/// Contains characters that must be encoded in a query and in HTML.
pub(crate) const STATE: &str = "st\"ate+/= &<ø>";
pub(crate) const NONCE: &str = "n-0S6_WzA2Mj";

/// A page, or a redirect.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) text: String,
}

impl Page {
    async fn of(response: Response) -> Self {
        let location = response.headers().get("Location");
        let location = location.map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        Self { status, location, text: response.text().await.unwrap() }
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.text.contains(&format!("id=\"{id}\""))
    }

    /// Returns the text of the element with this id.
    pub(crate) fn text_of(&self, id: &str) -> &str {
        let (_, rest) = self.text.split_once(&format!("id=\"{id}\"")).unwrap();
        rest.split_once('>').unwrap().1.split('<').next().unwrap()
    }

    /// Returns the value of a hidden field.
    pub(crate) fn hidden(&self, name: &str) -> String {
        let start = format!("<input type=\"hidden\" name=\"{name}\" value=\"");
        let (_, rest) = self.text.split_once(&start).unwrap();
        unescape(rest.split('"').next().unwrap())
    }

    pub(crate) fn action(&self) -> String {
        let (_, rest) = self.text.split_once("action=\"").unwrap();
        unescape(rest.split('"').next().unwrap())
    }

    /// Returns the options of the select element, and the selected one.
    pub(crate) fn options(&self) -> (Vec<String>, Option<String>) {
        let options = self.text.split("<option value=\"").skip(1);
        let (mut values, mut selected) = (Vec::new(), None);
        for option in options {
            let (value, rest) = option.split_once('"').unwrap();
            values.push(unescape(value));
            if rest.starts_with(" selected") {
                selected = Some(unescape(value));
            }
        }
        (values, selected)
    }

    /// Returns a parameter of the redirect.
    pub(crate) fn told(&self, name: &str) -> Option<String> {
        let uri = reqwest::Url::parse(self.location.as_deref()?).unwrap();
        let found = uri.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }

    /// Returns the code that was sent to the application.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.status, 302, "{}", self.text);
        self.told("code").unwrap_or_else(|| panic!("no code: {:?}", self.location))
    }
}

fn unescape(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&#39;", "'").replace("&amp;", "&")
}

/// A fixture with an application that people can sign in to.
pub(crate) struct People {
    pub(crate) fixture: Fixture,
}

impl People {
    pub(crate) async fn start() -> Self {
        Self::with(SignInRules::default()).await
    }

    pub(crate) async fn with(rules: SignInRules) -> Self {
        let fixture = Fixture::start().await;
        let sign_in = SignIn { system_token: true, ..SignIn::web(&[REDIRECT]) };
        fixture.sandbox.set_sign_in(CLIENT, &sign_in).unwrap();
        fixture.sandbox.set_sign_in_rules(rules);
        for (tenant, id, user, role_id) in [
            (ONE, ADMIN_ID, ADMIN, 1),
            (ONE, EMPLOYEE_ID, EMPLOYEE, 6),
            (TWO, EMPLOYEE_ID, EMPLOYEE, 6),
        ] {
            let change = |people: &mut superoffice_sandbox::people::People| {
                people.associates.insert(id, associate(id, user, role_id));
                people.persons.insert(id, person(id, user));
                Ok(())
            };
            fixture.sandbox.change_people(tenant, change).unwrap();
        }
        Self { fixture }
    }

    pub(crate) fn parameters() -> Vec<(&'static str, &'static str)> {
        vec![
            ("client_id", CLIENT),
            ("redirect_uri", REDIRECT),
            ("response_type", "code"),
            ("scope", "openid"),
            ("state", STATE),
            ("nonce", NONCE),
        ]
    }

    /// Opens an authorize request.
    pub(crate) async fn open(&self, path: &str, parameters: &[(&str, &str)]) -> Page {
        let uri = format!("{}{path}", self.fixture.sandbox.login_uri());
        let uri = reqwest::Url::parse_with_params(&uri, parameters).unwrap();
        Page::of(self.fixture.http.get(uri).send().await.unwrap()).await
    }

    /// Opens the usual request with changed parameters; an empty value removes one.
    pub(crate) async fn ask(&self, changes: &[(&'static str, &'static str)]) -> Page {
        let mut parameters = Self::parameters();
        parameters.retain(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
        parameters.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
        self.open("/login/common/oauth/authorize", &parameters).await
    }

    /// Submits the form of a page.
    pub(crate) async fn send(&self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let uri = format!("{}{}", self.fixture.sandbox.login_uri(), page.action());
        let request = page.hidden("request");
        let mut form = vec![("request", request.as_str())];
        form.extend(fields);
        Page::of(self.fixture.http.post(uri).form(&form).send().await.unwrap()).await
    }

    /// Signs in to [`ONE`] and approves. Returns the redirect to the application.
    pub(crate) async fn sign_in(
        &self,
        user: &str,
        changes: &[(&'static str, &'static str)],
    ) -> Page {
        let mut changes = changes.to_vec();
        changes.push(("acr_values", "tenant:Cust20001"));
        let page = self.ask(&changes).await;
        let page = self.send(&page, &[("user", user)]).await;
        if page.has("approval") { self.send(&page, &[("decision", "approve")]).await } else { page }
    }

    pub(crate) fn tokens(&self) -> RequestBuilder {
        self.fixture.http.post(format!("{}/login/common/oauth/tokens", self.login()))
    }

    pub(crate) fn login(&self) -> String {
        self.fixture.sandbox.login_uri()
    }

    /// Returns the form that exchanges a code.
    pub(crate) fn exchange_form(code: &str) -> Vec<(&str, &str)> {
        vec![
            ("grant_type", "authorization_code"),
            ("client_id", CLIENT),
            ("client_secret", SECRET),
            ("redirect_uri", REDIRECT),
            ("code", code),
        ]
    }

    pub(crate) fn refresh_form(token: &str) -> Vec<(&str, &str)> {
        vec![
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT),
            ("client_secret", SECRET),
            ("refresh_token", token),
        ]
    }

    /// Sends a token request. Returns status and body.
    pub(crate) async fn answer(&self, form: &[(&str, &str)]) -> (u16, Value) {
        let response = self.tokens().form(form).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Signs in to [`ONE`] and returns the token response.
    pub(crate) async fn granted(&self, user: &str) -> Value {
        let code = self.sign_in(user, &[]).await.code();
        let (status, body) = self.answer(&Self::exchange_form(&code)).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Signs in and returns the refresh token.
    pub(crate) async fn refresh_token(&self, user: &str) -> String {
        text(&self.granted(user).await, "refresh_token")
    }

    pub(crate) async fn refresh(&self, token: &str) -> (u16, Value) {
        self.answer(&Self::refresh_form(token)).await
    }

    /// Calls the Web API of [`ONE`] as a person.
    pub(crate) async fn call(&self, path: &str, access_token: &str) -> Response {
        let uri = format!("{}/{ONE}/api/v1/{path}", self.fixture.sandbox.api_uri(ApiHost::A));
        let request = self.fixture.http.get(uri).header("Accept", "application/json");
        request.header("Authorization", format!("Bearer {access_token}")).send().await.unwrap()
    }

    /// Requests the current principal and returns the status.
    pub(crate) async fn who(&self, access_token: &str) -> u16 {
        self.call("User/currentPrincipal", access_token).await.status().as_u16()
    }

    /// Sets the clock this many seconds after now.
    pub(crate) fn later(&self, seconds: i64) {
        self.fixture.sandbox.shift_clock(seconds);
    }
}

fn associate(id: u32, user: &str, role_id: u32) -> Associate {
    Associate {
        id,
        name: format!("EMP{id}"),
        user_name: user.into(),
        person_id: id,
        role_id,
        group_id: 1,
        other_groups: vec![2],
        can_login: true,
        licenses: vec!["ten-sales".into()],
        ..Associate::default()
    }
}

fn person(id: u32, user: &str) -> Person {
    let (first_name, last_name) = ("Kari".into(), "O'Brien <Ø>".into());
    let email = format!("mail.{user}");
    Person { id, first_name, last_name, email, company_id: 1, ..Person::default() }
}

pub(crate) fn text(body: &Value, name: &str) -> String {
    body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).into()
}
