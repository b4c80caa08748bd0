//! Tests every fault of the token endpoint × the cached tokens of a person: the right status, in time, with one call,
//! and the grant survives. Only a genuine `invalid_grant` and a response for another person end it until the next
//! consent. `cargo test --test it person_faults -- --nocapture` prints the table.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use superoffice_sandbox::{Endpoint, Fault, FaultScope, PreviousToken, SignInRules};
use tenant_gateway::grpc::pb::{
    self, impersonation_service_client::ImpersonationServiceClient,
    issue_access_token_request::Subject,
};
use tokio::task::JoinSet;
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{CLIENT_ID, CLIENT_SECRET, World, faults::forged_id_tokens, http::send, name};

/// The time limit: faults take at most the login time-out (1.5 s).
const IN_TIME: Duration = Duration::from_secs(8);

/// The number of concurrent groups. Rows are independent, so each group has its own environment, and groups wait for
/// time-outs together.
const GROUPS: usize = 4;

const OK: &str = "OK";
const DOWN: &str = "UPSTREAM_UNAVAILABLE";
const ODD: &str = "UPSTREAM_INVALID_RESPONSE";
const OUR_SECRET: &str = "APPLICATION_CREDENTIAL_REFUSED";
const ENDED: &str = "CONSENT_REQUIRED";
const OTHER_PERSON: &str = "SUBJECT_MISMATCH";

/// The behaviour of the token endpoint.
#[derive(Clone)]
enum Behaviour {
    Fault(Fault),
    /// The usual response with one field replaced; `None` removes the field.
    Answers(&'static str, Option<Value>),
}

struct Case {
    does: Behaviour,
    reason: &'static str,
}

fn cases(associate_of_nobody_else: u32) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |reason, all: Vec<Fault>| {
        cases.extend(all.into_iter().map(|fault| Case { does: Behaviour::Fault(fault), reason }));
    };
    let error = |status, error: &str| Fault::json(status, json!({ "error": error }));
    add(
        DOWN,
        vec![
            Fault::delay(Duration::from_secs(20)),
            Fault::Hang,
            Fault::Reset,
            Fault::Close,
            Fault::Truncate,
            Fault::status(500),
            Fault::status(503),
            Fault::status(429),
            Fault::status(400),
            Fault::Redirect { location: "http://127.0.0.1:9/".to_owned() },
            error(400, "invalid_request"),
            error(400, "temporarily_unavailable"),
            error(500, "invalid_grant"),
            error(503, "invalid_client"),
        ],
    );
    add(
        ODD,
        vec![
            Fault::Html,
            Fault::Huge { mebibytes: 3 },
            error(200, "invalid_grant"),
            Fault::json(200, json!([])),
        ],
    );
    add(ODD, forged_id_tokens("Cust9"));
    add(OUR_SECRET, vec![error(400, "invalid_client"), error(401, "invalid_client")]);
    add(ENDED, vec![error(400, "invalid_grant"), error(403, "invalid_grant")]);
    add(OTHER_PERSON, vec![Fault::WrongPerson { associate_id: associate_of_nobody_else }]);
    cases.extend(
        [
            ("refresh_token", None, OK),
            ("refresh_token", Some(json!("")), OK),
            ("refresh_token", Some(json!(5)), ODD),
            ("refresh_token", Some(json!("two words")), ODD),
            ("token_type", Some(json!("bearer")), OK),
            ("token_type", Some(json!("mac")), ODD),
            ("token_type", None, ODD),
            ("expires_in", Some(json!("3600")), OK),
            ("expires_in", None, OK),
            ("expires_in", Some(json!(-1)), ODD),
            ("expires_in", Some(json!(0)), ODD),
            ("expires_in", Some(json!("soon")), ODD),
            ("access_token", None, ODD),
            ("access_token", Some(json!("8A:Cust9.x")), ODD),
            ("id_token", None, ODD),
        ]
        .map(|(field, value, reason)| Case { does: Behaviour::Answers(field, value), reason }),
    );
    cases
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cached {
    Nothing,
    Valid,
    Expired,
}

/// A person of Cust1 with an imported refresh token.
struct Person {
    client: ImpersonationServiceClient<Channel>,
    associate_id: u32,
    refresh_token: String,
    grant: String,
}

impl Person {
    async fn new(world: &World, associate_id: u32) -> Self {
        let client = ImpersonationServiceClient::new(world.channel().await);
        let (refresh_token, grant) = (String::new(), String::new());
        let mut person = Self { client, associate_id, refresh_token, grant };
        person.consent(world).await;
        person
    }

    /// Creates a new grant, independent of earlier tokens.
    async fn consent(&mut self, world: &World) {
        let refresh_token = world.sandbox.begin_grant(CLIENT_ID, "Cust1", self.associate_id);
        self.refresh_token = refresh_token.unwrap();
        let (tenant, refresh_token) = (name("Cust1"), self.refresh_token.clone());
        let import = pb::ImportGrantRequest { tenant, refresh_token, ..Default::default() };
        let imported = self.client.import_grant(import).await.unwrap().into_inner();
        self.grant = imported.grant.unwrap().name;
    }

    /// Requests an access token, and returns the reason of a failure.
    async fn issue(&mut self) -> String {
        let (tenant, subject) = (name("Cust1"), Some(Subject::Grant(self.grant.clone())));
        let issue = pb::IssueAccessTokenRequest { tenant, subject, ..Default::default() };
        let begin = Instant::now();
        let issued = self.client.issue_access_token(issue).await;
        assert!(begin.elapsed() < IN_TIME, "{:?}", begin.elapsed());
        let reason =
            |status: Status| status.get_error_details().error_info().unwrap().reason.clone();
        issued.map_or_else(reason, |issued| {
            assert!(issued.into_inner().token.unwrap().value.starts_with("8A:Cust1."));
            OK.to_owned()
        })
    }

    async fn state(&mut self) -> pb::GrantState {
        let get = pb::GetGrantRequest { name: self.grant.clone() };
        self.client.get_grant(get).await.unwrap().into_inner().grant.unwrap().state()
    }

    /// Returns the usual response of SuperOffice.
    async fn answer(&self, world: &World) -> Value {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", &self.refresh_token)
            .append_pair("client_id", CLIENT_ID)
            .append_pair("client_secret", CLIENT_SECRET)
            .finish();
        let login = url::Url::parse(&world.sandbox.login_uri()).unwrap();
        let to = login.socket_addrs(|| None).unwrap()[0];
        let form_type = ("Content-Type", "application/x-www-form-urlencoded");
        let path = "/login/common/oauth/tokens";
        let answer = send(to, "POST", path, &[form_type], form.as_bytes()).await;
        serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"))
    }
}

async fn inject(world: &World, person: &Person, does: &Behaviour) {
    let fault = match does {
        Behaviour::Fault(fault) => fault.clone(),
        Behaviour::Answers(field, value) => {
            let mut answer = person.answer(world).await;
            let fields = answer.as_object_mut().unwrap();
            fields.remove(*field);
            fields.extend(value.clone().map(|value| ((*field).to_owned(), value)));
            Fault::json(200, answer)
        }
    };
    world.sandbox.inject(Endpoint::Tokens, fault, FaultScope::always()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_the_token_endpoint_loses_a_valid_grant() {
    let mut running = JoinSet::new();
    for rotation in [false, true] {
        for group in 0..GROUPS {
            running.spawn(rows(group, rotation));
        }
    }
    let mut table = running.join_all().await.concat();
    table.sort_unstable();
    println!("{}\n{} rows", table.join("\n"), table.len());
}

async fn rows(group: usize, rotation: bool) -> Vec<String> {
    let mut world = World::with_short_timeout().await;
    world.enroll("Cust1").await;
    world.sandbox.generate_people("Cust1", 100, 7).unwrap();
    // Accepts the previous token, because a lost response would otherwise lose the grant.
    let previous_token = PreviousToken::Accepted;
    let rules = SignInRules { rotation, previous_token, ..SignInRules::default() };
    world.sandbox.set_sign_in_rules(rules);
    let can_sign_in = |id: &u32| world.sandbox.begin_grant(CLIENT_ID, "Cust1", *id).is_ok();
    let mut people: Vec<_> = (1..300).filter(can_sign_in).collect();
    let nobody_else = people.pop().unwrap();
    let mut rows = Vec::new();
    for (index, case) in cases(nobody_else).into_iter().enumerate().skip(group).step_by(GROUPS) {
        let mut person = Person::new(&world, people.pop().expect("more people")).await;
        rows.push(row(&mut world, &mut person, index, &case, rotation).await);
    }
    rows
}

async fn row(
    world: &mut World,
    person: &mut Person,
    index: usize,
    case: &Case,
    rotation: bool,
) -> String {
    let Case { does, reason } = case;
    let does_what = match does {
        Behaviour::Fault(fault) => format!("{fault:?}").chars().take(70).collect(),
        Behaviour::Answers(field, value) => format!("{field}: {value:?}"),
    };
    let mut row =
        format!("{index:02} {does_what:<72}{:<10}", if rotation { "rotating" } else { "" });
    let ended = [ENDED, OTHER_PERSON].contains(reason);
    for cached in [Cached::Nothing, Cached::Valid, Cached::Expired] {
        let what = format!("{does_what} with {cached:?}, rotation {rotation}");
        if cached == Cached::Expired {
            world.advance(Duration::from_hours(13));
            // Waits until expired entries are removed in the background.
            while world.metric("access_tokens_cached").await > 0 {}
        }
        inject(world, person, does).await;
        let calls = world.sandbox.calls(Endpoint::Tokens);
        let needed = cached != Cached::Valid;
        let wanted = if needed { reason } else { OK };
        assert_eq!(person.issue().await, wanted, "{what}");
        // A refusal is cached, so the second call is not sent to SuperOffice.
        let again = person.issue().await;
        assert!(again == wanted || ended, "{what}: {again}");
        let made = world.sandbox.calls(Endpoint::Tokens) - calls;
        assert_eq!(made, u64::from(needed), "{what}");
        let lives = !(needed && ended);
        let state = if lives { pb::GrantState::Active } else { pb::GrantState::ConsentRequired };
        assert_eq!(person.state().await, state, "{what}");
        let _ = write!(row, "{wanted:<32}");
        world.sandbox.clear_faults();
        world.advance(Duration::from_mins(2));
        if !lives {
            person.consent(world).await;
        }
        assert_eq!(person.issue().await, OK, "{what}: no recovery");
    }
    row
}
