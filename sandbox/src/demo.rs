//! Demonstration data: one application with a new key, authorized on three tenants, and people who
//! can sign in to it.

use aws_lc_rs::rand;

use crate::control::{Control, ControlError};
use crate::endpoint::ApiHost;
use crate::keys::PrivateKey;
use crate::people::{Associate, People, Person};
use crate::world::{NewApplication, NewTenant, SignIn, TenantState};

const NAME: &str = "Demo Sync";

const TENANTS: [(&str, &str, TenantState, ApiHost); 3] = [
    ("Cust10001", "Demo One AS", TenantState::Running, ApiHost::A),
    ("Cust10002", "Demo Two AS", TenantState::Suspended, ApiHost::A),
    ("Cust10003", "Demo Three AS", TenantState::OnlineMaintenance, ApiHost::B),
];

/// Any port and path of this machine, because the client's address is not known here.
const REDIRECTS: [&str; 2] =
    [r"^http://(127\.0\.0\.1|localhost)\:\d{4,5}/\S*$", r"^http://127\.0\.0\.1\:\d{4,5}$"];

/// Associate id, first name, last name, role and tenants. Role 1 is an administrator.
const USERS: [(u32, &str, &str, u32, &[&str]); 3] = [
    (101, "Anna", "Admin", 1, &["Cust10001", "Cust10002", "Cust10003"]),
    (102, "Erik", "Employee", 3, &["Cust10001"]),
    (103, "Carla", "Consultant", 3, &["Cust10001", "Cust10003"]),
];

/// The data that a client needs. It is generated at each start.
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
    /// The users for the demonstration; generated users can sign in as well.
    pub users: Vec<DemoUser>,
}

/// A user who can sign in.
#[derive(Clone, Debug)]
pub struct DemoUser {
    /// The user name.
    pub user_name: String,
    /// The associate id, the same in every tenant.
    pub associate_id: u32,
    /// Whether the user may approve applications.
    pub administrator: bool,
    /// The tenants the user can sign in to.
    pub tenants: Vec<String>,
}

/// A tenant of the demonstration data.
#[derive(Clone, Debug)]
pub struct DemoTenant {
    /// The tenant's id.
    pub id: String,
    /// The initial state.
    pub state: TenantState,
    /// The application's system user token on it.
    pub system_user_token: String,
}

/// Adds the demonstration data. Generates an RSA key, which takes a noticeable part of a second.
///
/// # Errors
///
/// When the data was added before, or no key can be generated.
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
    let sign_in = SignIn { system_token: true, ..SignIn::web(&REDIRECTS) };
    control.set_sign_in(&client_id, &sign_in)?;
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
    let users = USERS.map(|(id, first_name, _, role_id, tenants)| DemoUser {
        user_name: user_name(first_name),
        associate_id: id,
        administrator: role_id == 1,
        tenants: tenants.iter().map(|&tenant| tenant.to_owned()).collect(),
    });
    for (id, first_name, last_name, role_id, tenants) in USERS {
        for tenant in tenants {
            control.change_people(tenant, |people| {
                add_user(people, id, (first_name, last_name), role_id);
                Ok(())
            })?;
        }
    }
    Ok(Demo {
        users: users.to_vec(),
        name: NAME.to_owned(),
        client_id,
        client_secret,
        private_key_pem: key.pem(),
        private_key_xml: key.xml()?,
        tenants,
    })
}

fn add_user(people: &mut People, id: u32, (first, last): (&str, &str), role_id: u32) {
    let associate = Associate {
        id,
        name: format!("{first}{id}").to_uppercase(),
        user_name: user_name(first),
        person_id: id,
        group_id: 1,
        role_id,
        can_login: true,
        licenses: vec!["ten-sales".to_owned()],
        ..Associate::default()
    };
    let (first_name, last_name, email) = (first.to_owned(), last.to_owned(), user_name(first));
    let person = Person { id, first_name, last_name, email, company_id: 1, ..Person::default() };
    people.associates.insert(id, associate);
    people.persons.insert(id, person);
}

fn user_name(first_name: &str) -> String {
    format!("{}@demo.example", first_name.to_lowercase())
}

fn hex_digits() -> Result<String, ControlError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
