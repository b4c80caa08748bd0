//! Compiles `proto/` and `vendor/envoy-api/` with protox, so that the build needs no `protoc`.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;

/// Messages that contain a credential. They are generated without `Debug`, so that logs cannot show them.
const WITHOUT_DEBUG: [&str; 13] = [
    "SystemTicket",
    "AccessToken",
    "IssueSystemTicketResponse",
    "WatchSystemTicketResponse",
    "IssueAccessTokenResponse",
    "WatchAccessTokenResponse",
    "SetSystemUserTokenRequest",
    "BeginConsentResponse",
    "CompleteConsentRequest",
    "ImportGrantRequest",
    "Header",
    "CallRequest",
    "CallResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=migrations");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    compile_contract(&out)?;
    compile_envoy(&out)
}

fn compile_contract(out: &Path) -> Result<(), Box<dyn Error>> {
    let folder = "proto/tenantgateway/v1";
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    let descriptors = protox::compile(&files, ["proto"])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let without_debug = WITHOUT_DEBUG.map(|name| format!(".tenantgateway.v1.{name}"));
    tonic_prost_build::configure()
        .build_client(true)
        .skip_debug(without_debug)
        .compile_fds(descriptors)?;
    Ok(())
}

/// Compiles Envoy's external authorization API. No message has `Debug`, because messages contain request headers.
fn compile_envoy(out: &Path) -> Result<(), Box<dyn Error>> {
    let folder = "vendor/envoy-api";
    println!("cargo::rerun-if-changed={folder}");
    let descriptors = protox::compile(["envoy/service/auth/v3/external_auth.proto"], [folder])?;
    fs::write(out.join("envoy_descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(true)
        .skip_debug([".envoy"])
        .include_file("envoy.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
