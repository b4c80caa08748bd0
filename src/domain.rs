//! Types and rules of access to SuperOffice CRM Online. Pure: no input or output, no clock, no randomness.

mod access_token;
mod alarm;
mod api_host;
mod api_path;
mod application;
mod associate;
mod audit;
mod caller_id;
mod consent;
mod credential_operation;
mod enrolment;
mod eyes;
mod file_text;
mod filter;
mod grant;
mod localized;
mod name;
mod no_proxy;
mod normal_form;
mod obstacle;
mod order;
mod proxy_address;
mod public_address;
mod redirects;
mod site;
mod tenant;
mod ticket;
mod token_algorithm;
mod trusted_proxies;
mod user_context;

pub use self::{
    access_token::{AccessTokenRefused, access_token_tenant},
    alarm::AlarmLimit,
    api_host::{AllowedApiHosts, UriRefused, WebApiUri},
    api_path::{ApiPath, ApiPathError, folded_path},
    application::{ApplicationFailure, ApplicationView, Environment, UnknownEnvironment},
    associate::{
        ASSOCIATE_FIELDS, ASSOCIATE_ORDERS, Associate, AssociateId, AssociateName, AssociateRecord,
        AssociateSelector, AssociateType, Capabilities, DataWarning, Directory, License,
        ListedAssociate, LookupKey, Owner, Principal, Reference, Role, RoleType, UserGroup,
        is_same_name,
    },
    audit::{
        AUDIT_FIELDS, AuditChainReport, AuditEvent, AuditFault, AuditFaultKind, AuditHash,
        AuditRecord, AuditRow, AuditSignature, AuditText, ChainLink, ChainPoint, ChainState,
        ChainVerifier, Decision, NO_HASH, SignedPoint, Statement, Unreadable,
    },
    caller_id::{
        ANONYMOUS, COMMAND_LINE_PREFIX, CallerOnRecord, begins_with, claims_spiffe,
        is_caller_prefix, is_reserved_caller, is_trust_domain, trust_domain,
    },
    consent::{
        ATTEMPT_LIFE, AttemptBinding, CONSENT_LIFE, Consent, ConsentAttempt, ConsentId,
        ConsentIdError, ConsentOutcome, is_current,
    },
    credential_operation::credential_operation,
    enrolment::{Labels, SystemUserToken},
    eyes::{Eyes, EyesError, EyesSelector},
    file_text::{NotUtf8, file_text, remove_byte_order_marks, trimmed, without_byte_order_mark},
    filter::{Field, FieldKind, Fields, Filter, FilterError, Pattern, Value},
    grant::{
        AccessToken, Failing, GRANT_FIELDS, Grant, GrantEventKind, GrantFailure, GrantId,
        GrantName, GrantScope, GrantSelector, GrantState, Identity, ListedGrant, RefreshToken,
        Subject,
    },
    localized::Languages,
    name::{
        ApplicationId, ContextIdentifier, ListScope, NameError, TenantName, TenantSelector,
        application_name,
    },
    no_proxy::{InvalidNoProxy, NoProxy},
    normal_form::folded_name,
    obstacle::{Obstacle, Reason},
    order::{Order, OrderError},
    proxy_address::{InvalidProxyUri, ProxyAddress, ProxyUri, is_proxy_username},
    public_address::{InvalidNat64Prefix, Nat64Prefix, is_public_address},
    redirects::{Redirects, ReturnPrefix, ReturnRefused},
    site::site,
    tenant::{ListedTenant, TENANT_FIELDS, Tenant, TenantState, TenantStatus, Usability},
    ticket::{
        CredentialId, SystemTicket, TICKET_LIFETIME, TicketRefused, ticket_lifetime_end,
        ticket_tenant,
    },
    token_algorithm::TokenAlgorithm,
    trusted_proxies::{IpNetwork, IpNetworkError, TrustedProxies},
    user_context::{ContextKind, Guidance, UserContext},
};
