//! Demonstration data: one application with a fresh key, authorized on three tenants.

use aws_lc_rs::rand;

use crate::control::{Control, ControlError};
use crate::endpoint::ApiHost;
use crate::keys::PrivateKey;
use crate::world::{NewApplication, NewTenant, TenantState};

const NAME: &str = "Demo Sync";

const TENANTS: [(&str, &str, TenantState, ApiHost); 3] = [
    ("Cust10001", "Demo One AS", TenantState::Running, ApiHost::A),
    ("Cust10002", "Demo Two AS", TenantState::Suspended, ApiHost::A),
    ("Cust10003", "Demo Three AS", TenantState::OnlineMaintenance, ApiHost::B),
];

/// What a client needs to use the demonstration data. All of it is made anew at each start.
#[derive(Clone, Debug)]
pub struct Demo {
    /// The application's name.
    pub name: String,
    /// The application's client id: 32 hex digits.
    pub client_id: String,
    /// The application's client secret: 32 hex digits.
    pub client_secret: String,
    /// The application's private key: PKCS #8 in PEM.
    pub private_key_pem: String,
    /// The same private key as `RSAKeyValue` XML.
    pub private_key_xml: String,
    /// The tenants.
    pub tenants: Vec<DemoTenant>,
}

/// A tenant of the demonstration data.
#[derive(Clone, Debug)]
pub struct DemoTenant {
    /// Its id.
    pub id: String,
    /// The state it begins in.
    pub state: TenantState,
    /// The application's system user token on it.
    pub system_user_token: String,
}

/// Adds the demonstration data. It makes an RSA key, which takes a good part of a second.
///
/// # Errors
///
/// When the data is there already, or no key can be made.
pub fn populate(control: &Control) -> Result<Demo, ControlError> {
    let key = PrivateKey::generate()?;
    let client_id = hex_digits()?;
    let client_secret = hex_digits()?;
    control.add_application(NewApplication {
        name: NAME.to_owned(),
        client_id: client_id.clone(),
        client_secret: client_secret.clone(),
        public_key: key.public_pem()?,
    })?;
    let mut tenants = Vec::new();
    for (id, company_name, state, host) in TENANTS {
        control.add_tenant(NewTenant {
            id: id.to_owned(),
            company_name: company_name.to_owned(),
            state,
            host,
        })?;
        let system_user_token = control.authorize(&client_id, id)?;
        tenants.push(DemoTenant { id: id.to_owned(), state, system_user_token });
    }
    Ok(Demo {
        name: NAME.to_owned(),
        client_id,
        client_secret,
        private_key_pem: key.pem(),
        private_key_xml: key.xml()?,
        tenants,
    })
}

fn hex_digits() -> Result<String, ControlError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
