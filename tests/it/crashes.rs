//! Tests of `kill -9` during refreshes, with a SuperOffice that rotates refresh tokens: which grants are lost.
//!
//! Each round refreshes other grants for the first time and ends with a kill: before the exchange, during it, after its
//! effect but before the response, or around the write to the store. Finally all grants are used once more. Only then
//! the test waits for the leases of the killed processes, for all of them together.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use secrecy::ExposeSecret as _;
use superoffice_sandbox::{
    Endpoint, Fault, FaultScope, PreviousToken, RefreshTokenRecord, RefreshTokenState, SignInRules,
};
use tenant_gateway::{
    app::Storage,
    config::Config,
    crypto::SystemRandom,
    domain::GrantName,
    grpc::pb::{
        self, impersonation_service_client::ImpersonationServiceClient,
        issue_access_token_request::Subject,
    },
    ports::{GrantStore as _, Random as _, StoreHealth as _},
};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use crate::{
    process::Random,
    support::{
        CLIENT_ID, Options, assert_status,
        binary::{Served, Site},
        eventually, get, name,
    },
};

const REFRESHES: usize = 300;
const ROUNDS: usize = 12;

/// The slowest response of SuperOffice.
const SLOWEST: Duration = Duration::from_millis(250);

/// Longer than a lease, an exchange and the delays of a busy machine together.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A grant at the gateway, and its associate at SuperOffice.
struct Acting {
    name: String,
    associate_id: u32,
}

/// The grants to check while no gateway runs, by name.
#[derive(Default)]
struct GrantsAfterKills {
    /// The store says that a refresh began but not how it ended.
    unfinished_refreshes: BTreeSet<String>,
    /// SuperOffice has replaced the token, but the new one is not in the store.
    unsaved_tokens: BTreeSet<String>,
}

/// Imports refresh tokens of this many people.
async fn import_all(site: &Site) -> Vec<Acting> {
    site.enroll("Cust1").await;
    site.sandbox.generate_people("Cust1", 3 * REFRESHES, 7).unwrap();
    let begin = |id| Some((id, site.sandbox.begin_grant(CLIENT_ID, "Cust1", id).ok()?));
    let people: Vec<_> = (1..10_000).filter_map(begin).take(REFRESHES).collect();
    assert_eq!(people.len(), REFRESHES, "too few can sign in");
    let served = site.serve().await;
    let mut client = ImpersonationServiceClient::new(served.channel().await);
    let mut all = Vec::new();
    for (associate_id, refresh_token) in people {
        let import =
            pb::ImportGrantRequest { tenant: name("Cust1"), refresh_token, ..Default::default() };
        let grant = client.import_grant(import).await.unwrap().into_inner().grant.unwrap();
        all.push(Acting { name: grant.name, associate_id });
    }
    served.stop().await;
    all
}

/// Requests tokens of these grants concurrently.
async fn ask(served: &Served, grants: &[Acting]) -> JoinSet<(String, Result<(), Status>)> {
    let client = ImpersonationServiceClient::new(served.channel().await);
    let mut calls = JoinSet::new();
    for Acting { name: grant, .. } in grants {
        let (mut client, grant) = (client.clone(), grant.clone());
        calls.spawn(async move {
            let subject = Some(Subject::Grant(grant.clone()));
            let tenant = name("Cust1");
            let asked = pb::IssueAccessTokenRequest { tenant, subject, ..Default::default() };
            let mut request = Request::new(asked);
            request.set_timeout(TIMEOUT);
            let issued = client.issue_access_token(request).await;
            (grant, issued.map(|issued| assert!(issued.into_inner().token.is_some())))
        });
    }
    calls
}

/// Runs one round: refreshes these grants concurrently and kills the process meanwhile. Returns a description of the
/// moment.
async fn killed(site: &Site, round: usize, grants: &[Acting], dice: &mut Random) -> String {
    let served = site.serve().await;
    let slow = Duration::from_millis(50 + dice.below(150));
    let fault = match round % 3 {
        0 => Some(Fault::delay(slow)),
        1 => Some(Fault::after_effect(Fault::delay(slow))),
        _ => None,
    };
    // Long enough for some responses.
    let window = Duration::from_millis(300) + fault.as_ref().map_or(Duration::ZERO, |_| slow);
    let moment = Duration::from_micros(dice.below(u64::try_from(window.as_micros()).unwrap()));
    let place = format!("{moment:?} into {fault:?}");
    if let Some(fault) = fault {
        site.sandbox.inject(Endpoint::Tokens, fault, FaultScope::always()).unwrap();
    }
    let before = site.sandbox.calls(Endpoint::Tokens);
    let calls = ask(&served, grants).await;
    let begun = || site.sandbox.calls(Endpoint::Tokens) > before;
    eventually("the first exchange begins", begun).await;
    tokio::time::sleep(moment).await;
    served.kill().await;
    let answered = calls.join_all().await.into_iter().filter(|(_, answer)| answer.is_ok()).count();
    // Longer than the slowest response, so that every exchange has its effect.
    tokio::time::sleep(SLOWEST).await;
    site.sandbox.clear_faults();
    format!("{place}: {answered} of {} answered", grants.len())
}

async fn standing(site: &Site, grants: &[Acting]) -> GrantsAfterKills {
    let at_superoffice = site.sandbox.grants();
    let config = Config::load(&site.file("gateway.toml")).unwrap().config;
    let storage = Storage::open(&config).await.unwrap();
    let mut standing = GrantsAfterKills::default();
    for Acting { name, associate_id } in grants {
        let grant: GrantName = name.parse().unwrap();
        let stored = storage.store.refresh_token(&grant).await.unwrap().unwrap();
        let digest = digest(&SHA256, stored.token.expose_secret().as_bytes());
        let digest: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let same = at_superoffice.iter().find(|grant| grant.associate_id == *associate_id).unwrap();
        let current = |token: &&RefreshTokenRecord| token.state == RefreshTokenState::Current;
        if stored.intent.is_some() {
            standing.unfinished_refreshes.insert(name.clone());
        }
        if same.refresh_tokens.iter().find(current).unwrap().digest != digest.concat() {
            standing.unsaved_tokens.insert(name.clone());
        }
    }
    storage.store.close().await;
    standing
}

async fn states(served: &Served) -> BTreeMap<String, pb::GrantState> {
    let list =
        pb::ListGrantsRequest { parent: name("Cust1"), page_size: 1000, ..Default::default() };
    let mut client = ImpersonationServiceClient::new(served.channel().await);
    let listed = client.list_grants(list).await.unwrap().into_inner().grants;
    listed.into_iter().map(|grant| (grant.name.clone(), grant.state())).collect()
}

/// Kills during refreshes, then uses all grants once more. `lost` returns, from the state after the kills, the grants
/// that need a new consent.
async fn crash_test(previous_token: PreviousToken, lost: fn(GrantsAfterKills) -> BTreeSet<String>) {
    let seed = SystemRandom.bytes().iter().fold(0, |seed, byte| seed << 8 ^ u64::from(*byte));
    let mut dice = Random(seed);
    // Hundreds of concurrent calls, perhaps on a busy machine.
    let extra_config = "[audit]\nmax_wait = \"1m\"".to_owned();
    let site = Site::with(Options { extra_config, ..Options::default() }).await;
    let grants = import_all(&site).await;
    let rules = SignInRules {
        rotation: true,
        previous_token,
        reuse_revokes_grant: true,
        ..Default::default()
    };
    site.sandbox.set_sign_in_rules(rules);
    let mut history = vec![format!("seed {seed}")];
    for (round, grants) in grants.chunks(REFRESHES.div_ceil(ROUNDS)).enumerate() {
        history.push(killed(&site, round, grants, &mut dice).await);
    }
    let standing = standing(&site, &grants).await;
    let unfinished_refreshes = standing.unfinished_refreshes.len();
    history.push(format!(
        "{unfinished_refreshes} orphans, {} not reached",
        standing.unsaved_tokens.len()
    ));
    assert!(
        unfinished_refreshes > 0
            && standing.unsaved_tokens.is_subset(&standing.unfinished_refreshes),
        "{history:#?}"
    );
    let lost = lost(standing);

    let served = site.serve().await;
    for (grant, answer) in ask(&served, &grants).await.join_all().await {
        match answer {
            Ok(()) => assert!(!lost.contains(&grant), "{grant} works: {history:#?}"),
            Err(status) => {
                assert!(lost.contains(&grant), "{grant}: {status:?}: {history:#?}");
                assert_status(&status, Code::FailedPrecondition, "CONSENT_REQUIRED");
            }
        }
    }
    for (grant, state) in states(&served).await {
        let broken = state == pb::GrantState::ConsentRequired;
        assert!(broken || state == pb::GrantState::Active, "{grant}: {state:?}");
        assert_eq!(broken, lost.contains(&grant), "{grant}: {history:#?}");
    }
    let metrics = get(served.admin, "/metrics").await;
    let counted = format!("\ntenantgateway_retried_after_crash_total {unfinished_refreshes}\n");
    assert!(metrics.contains(&counted), "{history:#?}: {metrics}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_grant_is_lost_to_kill_9_if_superoffice_accepts_the_previous_token_once() {
    crash_test(PreviousToken::AcceptedUntilNextIsUsed, |_| BTreeSet::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn otherwise_only_grants_whose_response_was_lost_need_a_new_consent() {
    crash_test(PreviousToken::Refused, |standing| standing.unsaved_tokens).await;
}
