//! Callers with tokens: an issuer of the test, and calls by method name.

use std::fs;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::{Buf, BufMut};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use prost::Message as _;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use tenant_gateway::grpc::pb;
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataValue,
    transport::Channel,
};

use super::{APPLICATION, CLIENT_ID, Options, World, name};

/// Issuer and audience of the test tokens.
pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const AUDIENCE: &str = "tenant-gateway";

/// Signs tokens with ES256.
pub(crate) struct TestIssuer {
    key: KeyPair,
    kid: String,
    /// The `iss` of its tokens.
    pub(crate) issuer: String,
}

impl TestIssuer {
    pub(crate) fn new(issuer: &str, kid: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { key, kid: kid.to_owned(), issuer: issuer.to_owned() }
    }

    /// Returns its public key as a JWK.
    pub(crate) fn jwk(&self) -> Value {
        // An uncompressed point (SEC 1, 2.3.3): 4, x, y.
        let point = self.key.der_bytes();
        let coordinate = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": coordinate(&point[1..33]), "y": coordinate(&point[33..65]),
        })
    }

    pub(crate) fn jwks(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    /// Returns the claims of a valid token, from a minute ago for an hour.
    pub(crate) fn claims(&self, subject: &str, now: i64) -> Value {
        json!({
            "iss": self.issuer, "sub": subject, "aud": AUDIENCE,
            "iat": now - 60, "nbf": now - 60, "exp": now + 3600,
        })
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        encode(&header, claims, &key).unwrap()
    }

    /// Returns a valid token.
    pub(crate) fn token(&self, subject: &str, now: i64) -> String {
        self.sign(&self.claims(subject, now))
    }
}

/// The settings of the issuer, with its keys in a file.
pub(crate) const CALLERS: &str = r#"
[[callers.jwt]]
issuer = "https://issuer.test"
audience = "tenant-gateway"
jwks_file = "jwks.json"
"#;

/// A gateway that authenticates its callers.
pub(crate) struct AuthenticatedGateway {
    pub(crate) world: World,
    pub(crate) issuer: TestIssuer,
    pub(crate) channel: Channel,
}

impl AuthenticatedGateway {
    pub(crate) async fn new(policy: &str) -> Self {
        Self::with(policy, Options::default()).await
    }

    pub(crate) async fn with(policy: &str, options: Options) -> Self {
        let issuer = TestIssuer::new(ISSUER, "one");
        let callers = Some(CALLERS.to_owned());
        let policy = Some(policy.to_owned());
        let mut world = World::with_files(Options { callers, policy, ..options }).await;
        fs::write(world.folder.path().join("jwks.json"), issuer.jwks()).unwrap();
        world.start().await.unwrap();
        let channel = world.channel().await;
        Self { world, issuer, channel }
    }

    pub(crate) fn token(&self, caller: &str) -> String {
        self.issuer.token(caller, self.world.clock_seconds())
    }

    pub(crate) async fn call(
        &self,
        caller: &str,
        method: &str,
        message: Vec<u8>,
    ) -> Result<Vec<u8>, Status> {
        let token = self.token(caller);
        call(&self.channel, method, with_bearer_token(&token, message)).await
    }
}

impl AuthenticatedGateway {
    /// Creates a tenant at SuperOffice and enrolls it at the gateway, as a permitted caller.
    pub(crate) async fn enroll(&self, caller: &str, tenant: &str) {
        let system_user_token = self.world.make_tenant(tenant);
        let create = pb::CreateTenantRequest {
            parent: format!("applications/{APPLICATION}"),
            tenant_id: tenant.to_owned(),
            tenant: None,
        };
        self.call(caller, "TenantService/CreateTenant", create.encode_to_vec()).await.unwrap();
        let set = pb::SetSystemUserTokenRequest { name: name(tenant), system_user_token };
        let set = set.encode_to_vec();
        self.call(caller, "TenantService/SetSystemUserToken", set).await.unwrap();
    }

    /// Imports the grant of a person of an enrolled tenant. Returns the associate id and the grant's name.
    pub(crate) async fn person(&self, caller: &str, tenant: &str) -> (i32, String) {
        let sandbox = &self.world.sandbox;
        sandbox.generate_people(tenant, 20, 7).unwrap();
        let signed_in = |id| Some((id, sandbox.begin_grant(CLIENT_ID, tenant, id).ok()?));
        let (id, refresh_token) = (1..100).find_map(signed_in).expect("no user can sign in");
        let import =
            pb::ImportGrantRequest { tenant: name(tenant), refresh_token, ..Default::default() };
        let method = "ImpersonationService/ImportGrant";
        let imported = self.call(caller, method, import.encode_to_vec()).await.unwrap();
        let grant = pb::ImportGrantResponse::decode(&*imported).unwrap().grant.unwrap();
        (i32::try_from(id).unwrap(), grant.name)
    }
}

/// Adds a bearer token to a request.
pub(crate) fn with_bearer_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// Calls a method by name with an encoded message. For a stream, waits for the first message only.
pub(crate) async fn call(
    channel: &Channel,
    method: &str,
    request: Request<Vec<u8>>,
) -> Result<Vec<u8>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = format!("/tenantgateway.v1.{method}").parse().unwrap();
    let mut stream = client.server_streaming(request, path, Bytes).await?.into_inner();
    Ok(stream.message().await?.unwrap_or_default())
}

/// A codec that passes encoded messages through.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
