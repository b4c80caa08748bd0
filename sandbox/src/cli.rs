//! The command line: arguments, demonstration files and the start message.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use superoffice_sandbox::demo::Demo;
use superoffice_sandbox::{ApiHost, Options, Sandbox};

const EXAMPLES: &str = "\
The addresses are printed at start, with curl commands. Everything can be changed while it
runs, through the control host:

  move a tenant, so that its old host answers 421
    curl -X PUT http://127.0.0.1:9003/tenants/Cust10001/host \\
      -H 'Content-Type: application/json' -d '{\"host\": \"B\"}'
  let the next two exchanges fail with 503
    curl http://127.0.0.1:9003/faults -H 'Content-Type: application/json' \\
      -d '{\"endpoint\": \"authenticate\", \"fault\": {\"kind\": \"status\", \"status\": 503}, \"times\": 2}'

  let a refresh take effect, but drop its response
    curl http://127.0.0.1:9003/faults -H 'Content-Type: application/json' \\
      -d '{\"endpoint\": \"tokens\", \"fault\": {\"kind\": \"after_effect\", \"fault\": {\"kind\": \"close\"}}, \"times\": 1}'

People sign in without a password: anna@demo.example is an administrator of all tenants,
erik@demo.example and carla@demo.example are not. Redirects to any port of this machine are allowed.
Tenants: Cust10001 is Running, Cust10002 is Suspended, Cust10003 is in OnlineMaintenance.
All data is created at each start and lost at exit. Ctrl-C or SIGTERM stops the sandbox.";

/// A simulated SuperOffice CRM Online on loopback ports, with demonstration data.
///
/// It serves a login host (discovery, keys, system user exchange, sign-in of people, tenant
/// status), two API hosts that tenants can move between, and a control host that configures it.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Port of the login host; 0 takes any free port
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    login_port: u16,

    /// Port of API host A
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    api_a_port: u16,

    /// Port of API host B
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    api_b_port: u16,

    /// Port of the control host
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    control_port: u16,

    /// Write client id, client secret, private key (PEM and XML) and system user tokens as files
    /// into this folder, for use by a client
    #[arg(long, value_name = "DIR")]
    pub(crate) write_demo: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn options(&self) -> Options {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Options {
            login: local(self.login_port),
            api: [local(self.api_a_port), local(self.api_b_port)],
            control: local(self.control_port),
            ..Options::default()
        }
    }
}

/// Writes each value to its own file, without a line break at the end.
pub(crate) fn write_demo(folder: &Path, demo: &Demo) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let write = |name: &str, content: &str| write_secret(&folder.join(name), content);
    write("client_id", &demo.client_id)?;
    write("client_secret", &demo.client_secret)?;
    write("private_key.pem", &demo.private_key_pem)?;
    write("private_key.xml", &demo.private_key_xml)?;
    for tenant in &demo.tenants {
        write(&format!("{}.system_user_token", tenant.id), &tenant.system_user_token)?;
    }
    Ok(())
}

/// Writes a file that only its owner can read, because clients may require that.
fn write_secret(path: &Path, content: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}

pub(crate) fn print_summary(
    out: &mut impl Write,
    sandbox: &Sandbox,
    demo: &Demo,
    arguments: &Arguments,
) -> io::Result<()> {
    let (login, control) = (sandbox.login_uri(), sandbox.control_uri());
    writeln!(out, "login    {login}")?;
    writeln!(out, "api A    {}", sandbox.api_uri(ApiHost::A))?;
    writeln!(out, "api B    {}", sandbox.api_uri(ApiHost::B))?;
    writeln!(out, "control  {control}\n")?;
    writeln!(out, "application    {}", demo.name)?;
    writeln!(out, "client id      {}", demo.client_id)?;
    writeln!(out, "client secret  {}", demo.client_secret)?;
    for tenant in &demo.tenants {
        let state = format!("{:?}", tenant.state);
        writeln!(out, "{}      {state:<18} {}", tenant.id, tenant.system_user_token)?;
    }
    for user in &demo.users {
        let role = if user.administrator { "administrator" } else { "employee" };
        writeln!(out, "{:<19} {role:<14} {}", user.user_name, user.tenants.join(" "))?;
    }
    match &arguments.write_demo {
        Some(folder) => writeln!(out, "private key    {}/private_key.pem", folder.display())?,
        None => writeln!(out, "private key    (--write-demo DIR writes it to a file)")?,
    }
    let (json, client_id) = ("-H 'Content-Type: application/json'", &demo.client_id);
    writeln!(
        out,
        "\ncurl {login}/login/.well-known/openid-configuration\n\
         curl {login}/api/state/Cust10001\n\
         {login}/login/common/oauth/authorize?client_id={client_id}&response_type=code\
         &scope=openid&state=1&redirect_uri=http://127.0.0.1:8000/  # in a browser\n\
         curl {control}/counts\n\
         curl -X PUT {control}/tenants/Cust10001/host {json} -d '{{\"host\": \"B\"}}'\n\
         curl -X PUT {control}/tenants/Cust10001/state {json} -d '{{\"state\": \"Suspended\"}}'\n"
    )?;
    out.flush()
}
